//! SPF of a name: mail-auth evaluates it for each address that our mail leaves from, the lint says what receivers dislike.

use mail_auth::MessageAuthenticator;
use mail_auth::spf::verify::SpfParameters;

use super::{Asked, Asker, Wanted, kept};
use crate::dns::Resolver;
use crate::seal::facts::{SpfAnswer, SpfResult};
use crate::seal::spf::{Whose, is_spf, lint};

/// The local part that SPF takes where the reverse-path is null (RFC 7208 section 2.4). Whoever sends, no sane record asks.
const MAILBOX: &str = "postmaster";

pub(super) async fn ask(fresh: &Resolver, wanted: &Wanted) -> Asked<SpfAnswer> {
    let name = wanted.domain.as_str();
    let mailbox = format!("{MAILBOX}@{name}");
    let whose = Whose { name, hello: wanted.hostname.as_str(), mailbox: &mailbox, egress: &wanted.egress };
    let mut asker = Asker::new(fresh);
    let Some(text) = asker.text(name).await else { return asker.done(None) };
    let records = text.records.into_iter().filter(|record| is_spf(record)).collect();
    let mut answer = SpfAnswer { records: kept(records), ..SpfAnswer::default() };
    lint(&mut asker, whose, &mut answer).await;
    let authenticator = MessageAuthenticator(fresh.hickory().clone());
    for address in &wanted.egress {
        // RFC 7208 section 5: an IPv4-mapped address is an IPv4 address.
        let parameters =
            SpfParameters::verify_mail_from(address.to_canonical(), whose.hello, whose.hello, whose.mailbox);
        let result = result(authenticator.verify_spf(parameters).await.result());
        // Of a record that nobody can evaluate, an error is the answer; of a sound one, it is DNS that failed.
        if result == SpfResult::TempError && answer.is_sound() && !asker.is_silent() {
            asker.silent(format!("{name} SPF for {address}"), "temperror".to_owned());
        }
        answer.results.push((*address, result));
    }
    let value = (!asker.is_silent()).then_some(answer);
    asker.done(value)
}

fn result(result: mail_auth::SpfResult) -> SpfResult {
    match result {
        mail_auth::SpfResult::Pass => SpfResult::Pass,
        mail_auth::SpfResult::Fail => SpfResult::Fail,
        mail_auth::SpfResult::SoftFail => SpfResult::SoftFail,
        mail_auth::SpfResult::Neutral => SpfResult::Neutral,
        mail_auth::SpfResult::TempError => SpfResult::TempError,
        mail_auth::SpfResult::PermError => SpfResult::PermError,
        mail_auth::SpfResult::None => SpfResult::None,
    }
}
