//! The gate: is this user name's password right, without hashing at every connection, without telling strangers
//! which names exist, and without letting their guesses lock the tenant out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Tenant, Tenants};
use crate::mail::secret::SecretString;

/// What the gate says.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The password is right.
    Ok {
        /// Whose login it is.
        tenant: Arc<Tenant>,
        /// The user name.
        login: Arc<str>,
    },
    /// No such name, or not its password: 535 5.7.8, the same for both.
    Refused,
    /// Too many guesses lately: 454 4.7.0; the password was not looked at.
    Throttled {
        /// When another try is worth while.
        wait: Duration,
    },
}

/// Checks passwords.
#[derive(Debug)]
pub struct Gate {
    tenants: Arc<Tenants>,
}

impl Gate {
    /// A gate over the current tenants.
    #[must_use]
    pub fn new(tenants: Arc<Tenants>) -> Self {
        Self { tenants }
    }

    /// Whether `password` is `username`'s. Call `Directory::login` again at each MAIL: a login revoked meanwhile is gone.
    pub async fn check(&self, ip: IpAddr, username: &str, password: SecretString) -> Verdict {
        let _ = (&self.tenants, ip, username, password);
        todo!("the gate's body follows")
    }

    /// Forgets every good login; called after a reload.
    pub fn forget(&self) {}
}
