//! What a line of the mail log says happened.

use serde::Serialize;

use crate::metrics::EventLabel;

/// Declares the types, each with its name as it is written.
macro_rules! types {
    ($($variant:ident $name:literal,)*) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        #[allow(missing_docs, reason = "docs/log.md says what each means, and a test holds it to this list")]
        pub enum Type {
            $(#[serde(rename = $name)] $variant,)*
        }

        impl Type {
            /// Every type, in the order of a message's life.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As it is written.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

types! {
    Received "received",
    Rejected "rejected",
    Held "held",
    Released "released",
    Attempt "attempt",
    Deferred "deferred",
    Delivered "delivered",
    Relayed "relayed",
    Bounced "bounced",
    Expired "expired",
    Superseded "superseded",
    Suppressed "suppressed",
    Dropped "dropped",
    Dsn "dsn",
    Alert "alert",
    RemoteBounce "remote_bounce",
    Complaint "complaint",
    PlatformSeal "platform_seal",
    SealCheck "seal_check",
    Volume "volume",
    TlsReport "tls_report",
    Probe "probe",
    Health "health",
    Audit "audit",
}

impl From<Type> for EventLabel {
    fn from(kind: Type) -> Self {
        Self { r#type: kind.name() }
    }
}
