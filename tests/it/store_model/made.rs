//! The mail of the model test.

use std::sync::Arc;

use bytes::Bytes;
use waxseal::mail::class::{By, Classed};
use waxseal::mail::deliver_by::{DeliverBy, Mode};
use waxseal::mail::envelope::{Envelope, Notify, Recipient};
use waxseal::mail::id::Id;
use waxseal::mail::meaning::Reason;
use waxseal::mail::message::{Asked, Facts, Kind, Lane, Message, Needs};
use waxseal::mail::time::Time;
use waxseal::queue::store::{Accept, Destination, Last};

use super::DAY;

pub fn last(text: &str, at: Time) -> Last {
    Last {
        at,
        code: 451,
        enhanced: None,
        text: text.into(),
        host: Some("mx.example".into()),
        reason: Reason::Busy,
        lost: None,
    }
}

/// A message to these destinations, with so many recipients each.
pub fn message(serial: u64, now: Time, tenant: &str, lane: Lane, legs: &[(u8, u8)], size: usize) -> Accept {
    let mut rcpts = Vec::new();
    let mut parts = Vec::new();
    for (destination, count) in legs {
        let first = rcpts.len() as u16;
        let domain = format!("d{destination}.example");
        for at in 0..*count {
            let address = format!("r{at}@{domain}").parse().unwrap();
            rcpts.push(Recipient { address, orcpt: None, notify: Notify::default() });
        }
        parts.push((Destination(domain.into()), (first..rcpts.len() as u16).collect()));
    }
    let asks = lane == Lane::Urgent;
    let notify = DeliverBy { at: Time(now.0 + 1_800_000), mode: Mode::Notify, trace: false };
    let from = Some(format!("from@{tenant}.example").parse().unwrap());
    let facts = Facts {
        id: Id::new(now, u128::from(serial)),
        tenant: tenant.into(),
        login: None,
        header_from: Some(format!("From@{tenant}.example").parse().unwrap()),
        class: asks.then(|| Classed { name: "reset".into(), by: By::Login }),
        lane,
        kind: Kind::Mail,
        envelope: Envelope { from, rcpts, ret: None, envid: None },
        received: now,
        expires: Time(now.0 + 5 * DAY),
        return_path: None,
        unsealed: None,
        needs: Needs::default(),
        asked: Asked { supersede: asks, ..Asked::default() },
        priority: waxseal::mail::priority::Priority::default(),
        deliver_by: serial.is_multiple_of(3).then_some(notify),
        size: size as u64,
    };
    let body: Vec<u8> = (0..size).map(|at| (at as u64 * 31 + serial) as u8).collect();
    Accept {
        message: Arc::new(Message { facts, body: Bytes::from(body) }),
        legs: parts,
        held: None,
        tells: vec![],
    }
}
