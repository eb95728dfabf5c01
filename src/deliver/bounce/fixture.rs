//! Tenants, messages and legs for the unit tests of those who tell of failures.

use std::sync::Arc;

use crate::mail::attempt::{Decided, Fate, Hop, Timings};
use crate::mail::envelope::{Envelope, Notify, Recipient};
use crate::mail::id::Id;
use crate::mail::message::{Facts, Kind, Lane, Message, Needs};
use crate::mail::reply::{Enhanced, PeerReply};
use crate::mail::time::Time;
use crate::queue::store::{Destination, Leg, State};
use crate::tenant::{BareNewlines, OnFail, OwnedDomain, Route, Tenant, TenantLimits};

pub(crate) const DAY: u64 = 24 * 3_600_000;

pub(crate) fn tenant(name: &str, domain: &str, notify: &[&str]) -> Tenant {
    let own = OwnedDomain {
        name: domain.parse().unwrap(),
        on_fail: OnFail::default(),
        return_path: None,
        subdomains: false,
    };
    Tenant {
        name: name.into(),
        networks: Vec::new(),
        notify: notify.iter().map(|address| address.parse().unwrap()).collect(),
        logins: Vec::new(),
        domains: vec![own],
        route: Arc::new(Route::Mx),
        fallbacks: Vec::new(),
        signing: crate::tenant::Signing::default(),
        limits: TenantLimits::default(),
        bare_newlines: BareNewlines::default(),
        classes: crate::config::Classes::default(),
        suppression: crate::tenant::SuppressionRules::default(),
    }
}

pub(crate) fn facts(tenant: &str, from: Option<&str>, rcpts: &[&str]) -> Facts {
    let rcpt = |address: &&str| Recipient {
        address: address.parse().unwrap(),
        orcpt: None,
        notify: Notify::default(),
    };
    let envelope = Envelope {
        from: from.map(|address| address.parse().unwrap()),
        rcpts: rcpts.iter().map(rcpt).collect(),
        ret: None,
        envid: None,
    };
    Facts {
        id: Id::new(Time(1_000), 7),
        tenant: tenant.into(),
        login: None,
        header_from: None,
        class: None,
        lane: Lane::Normal,
        kind: Kind::Mail,
        envelope,
        received: Time(1_000),
        expires: Time(1_000 + 5 * DAY),
        return_path: None,
        unsealed: None,
        needs: Needs::default(),
        asked: crate::mail::message::Asked::default(),
        priority: crate::mail::priority::Priority::default(),
        deliver_by: None,
        size: 4,
    }
}

pub(crate) fn message(facts: Facts) -> Arc<Message> {
    Arc::new(Message { facts, body: "Subject: s\r\n\r\nb\r\n".into() })
}

/// All recipients of the message in one leg.
pub(crate) fn leg(facts: &Facts) -> Leg {
    Leg {
        id: facts.id,
        leg: 0,
        tenant: Arc::clone(&facts.tenant),
        destination: Destination("example.test".into()),
        lane: Lane::Normal,
        rcpts: (0..u16::try_from(facts.envelope.rcpts.len()).unwrap()).collect(),
        attempts: 0,
        state: State::Due(facts.received),
        last: None,
        delay_told: false,
        received: facts.received,
        expires: facts.expires,
    }
}

pub(crate) fn decided(rcpt: u16, fate: Fate) -> Decided {
    let (code, enhanced, text) = match fate {
        Fate::Delivered => (250, Enhanced(2, 0, 0), "2.0.0 ok"),
        Fate::Deferred => (451, Enhanced(4, 7, 1), "4.7.1 later"),
        Fate::Failed => (550, Enhanced(5, 1, 1), "5.1.1 no such user"),
    };
    let hop = Hop { route: "mx", host: Some("mx.example.test".to_owned()), ..Hop::default() };
    let reply = PeerReply { code, enhanced: Some(enhanced), text: text.into() };
    Decided { rcpt, fate, reply, hop, ms: Timings::default() }
}
