//! TLS reports (RFC 8460): what is counted, who is told, by mail and by HTTPS, and that it survives a restart.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hickory_server::proto::rr::RecordType;
use mail_auth::report::tlsrpt::{PolicyType, ResultType, TlsReport};
use waxseal::clock::Clock;
use waxseal::control::Client;
use waxseal::control::wire::StsPolicy;
use waxseal::daemon::Daemon;
use waxseal::sandbox::world::{Extra, World};

use crate::pki::Authority;
use crate::web::{Web, answer};
use crate::world::{self, arrival, log};

const DAY: u64 = 86_400_000;
/// All reports are out by then.
const SPREAD: u64 = 4 * 3_600_000;
const POLICY: &str = "version: STSv1\nmode: testing\nmx: mx.other.test\nmax_age: 604800\n";

/// A world in which inbox.test asks for reports by both ways, and has a policy that is only tested.
struct Place {
    world: World,
    _dir: tempfile::TempDir,
    _roots: tempfile::NamedTempFile,
    policy: Web,
    reports: Web,
    hand: Arc<AtomicU64>,
}

async fn place() -> Place {
    let authority = Authority::new();
    let served = authority.issue(&["mta-sts.inbox.test"]);
    let policy = Web::start("127.0.0.41:0", &served, answer("200 OK", "text/plain", POLICY)).await;
    let served = authority.issue(&["rpt.inbox.test"]);
    let reports = Web::start("127.0.0.42:0", &served, answer("201 Created", "text/plain", "")).await;
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), authority.pem()).unwrap();
    let delivery =
        format!("mta_sts_port = {}\nca_file = \"{}\"\n", policy.address.port(), roots.path().display());
    let (world, dir) = world::start(&Extra { delivery, ..Extra::default() }).await;
    let zone = format!(
        "_mta-sts.inbox.test. 1 IN TXT \"v=STSv1; id=1\"\nmta-sts.inbox.test. 1 IN A 127.0.0.41\n\
         rpt.inbox.test. 1 IN A 127.0.0.42\n\
         _smtp._tls.inbox.test. 1 IN TXT \"v=TLSRPTv1; rua=mailto:tls@inbox.test,https://rpt.inbox.test:{}/v1\"\n",
        reports.address.port()
    );
    world.zone.publish(&zone).await.unwrap();
    let hand = Arc::new(AtomicU64::new(Clock::System.now().0));
    Place { world, _dir: dir, _roots: roots, policy, reports, hand }.restarted().await
}

impl Place {
    /// The same relay again, by a clock in the test's hand.
    async fn restarted(self) -> Self {
        let World { zone, exchanger, daemon, config, password, certificate } = self.world;
        daemon.drain().await.unwrap();
        let clock = Clock::Set(Arc::clone(&self.hand));
        let daemon = Box::pin(Daemon::start_at(config.clone(), clock)).await.unwrap();
        Self { world: World { zone, exchanger, daemon, config, password, certificate }, ..self }
    }

    /// So long after the end of this day.
    fn turn_to_tomorrow(&self, and: u64) {
        let tomorrow = (self.hand.load(Ordering::Relaxed) / DAY + 1) * DAY;
        self.hand.store(tomorrow + and, Ordering::Relaxed);
    }

    async fn send(&mut self) {
        world::submit(&self.world, waxseal::sandbox::client::Method::None).await;
        arrival(&mut self.world).await;
    }
}

/// A place that asks by HTTPS alone; the day is over, and it did not take its report.
async fn not_taken() -> Place {
    let mut place = place().await;
    let elsewhere = format!(
        "_smtp._tls.inbox.test. 1 IN TXT \"v=TLSRPTv1; rua=https://rpt.inbox.test:{}/v1\"\n",
        place.reports.address.port()
    );
    place.world.zone.withdraw("_smtp._tls.inbox.test.", RecordType::TXT).await.unwrap();
    place.world.zone.publish(&elsewhere).await.unwrap();
    place.reports.answers(answer("503 Not Now", "text/plain", ""));
    place.send().await;
    place.turn_to_tomorrow(SPREAD);
    place.world.daemon.report_tls().await;
    assert_eq!(place.reports.asked().len(), 1);
    place
}

/// The report in a request's or a mail's octets.
fn unpacked(gzip: &[u8]) -> TlsReport {
    let mut json = String::new();
    flate2::read::GzDecoder::new(gzip).read_to_string(&mut json).unwrap();
    serde_json::from_str(&json).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_asks_for_it_is_told_when_the_day_is_over() {
    let mut place = place().await;
    place.send().await;
    place.world.daemon.report_tls().await;
    assert!(place.reports.asked().is_empty(), "the day is not over");

    place = place.restarted().await;
    assert_eq!(place.policy.connections(), 1);
    place.turn_to_tomorrow(SPREAD);
    place.world.daemon.report_tls().await;

    let asked = place.reports.asked().remove(0);
    let end = memchr::memmem::find(&asked, b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&asked[..end]).to_ascii_lowercase();
    assert!(head.starts_with("post /v1 http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/tlsrpt+gzip"), "{head}");
    let report = unpacked(&asked[end + 4..]);
    assert_eq!(report.policies.len(), 1, "{report:?}");
    let policy = &report.policies[0];
    assert_eq!(policy.policy.policy_type, PolicyType::Sts);
    assert_eq!(policy.policy.policy_domain, "inbox.test");
    assert!(policy.policy.policy_string.contains(&"mode: testing".to_owned()), "{policy:?}");
    assert_eq!((policy.summary.total_success, policy.summary.total_failure), (0, 1));
    assert_eq!(policy.failure_details[0].result_type, ResultType::ValidationFailure);

    let mail = arrival(&mut place.world).await;
    assert!(mail.verdict.passes(), "sealed by the relay: {:?}", mail.verdict);
    let text = String::from_utf8_lossy(&mail.message).into_owned();
    assert!(
        text.contains("\r\nTLS-Required: No\r\n") && text.contains("TLS-Report-Domain: inbox.test"),
        "{text}"
    );
    let by_mail = TlsReport::parse_rfc5322(&mail.message, 1 << 20).unwrap();
    assert_eq!(by_mail.policies, report.policies);

    let log = log(&place.world);
    assert_eq!(log.matches(r#""type":"tls_report""#).count(), 2, "{log}");
    place.hand.fetch_add(DAY, Ordering::Relaxed);
    place.world.daemon.report_tls().await;
    assert_eq!(place.reports.asked().len(), 1, "once, and nothing about the report itself");
    place.world.end().await.unwrap();
}

/// Where reports go is a stranger's word, address and port.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_goes_to_no_inside_address_by_https() {
    let mut place = place().await;
    place.send().await;
    place.world.config.delivery.allow_private_destinations = false;
    // The exchanger's, and nobody's else.
    place.world.config.delivery.allow_destinations = vec!["127.0.0.1/32".parse().unwrap()];
    place = place.restarted().await;
    place.hand.fetch_add(DAY, Ordering::Relaxed);
    place.world.daemon.report_tls().await;
    assert_eq!(place.reports.connections(), 0, "OB1");
    let mail = arrival(&mut place.world).await;
    assert!(
        String::from_utf8_lossy(&mail.message).contains("TLS-Report-Domain: inbox.test"),
        "by mail it is told"
    );
    place.world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_nobody_takes_is_tried_again_within_its_day() {
    let place = not_taken().await;
    place.world.daemon.report_tls().await;
    assert_eq!(place.reports.asked().len(), 1, "not again at once");
    place.reports.answers(answer("201 Created", "text/plain", ""));
    place.hand.fetch_add(15 * 60_000, Ordering::Relaxed);
    place.world.daemon.report_tls().await;
    place.hand.fetch_add(DAY / 2, Ordering::Relaxed);
    place.world.daemon.report_tls().await;
    assert_eq!(place.reports.asked().len(), 2, "taken, and told once");
    place.world.end().await.unwrap();
}

/// When a report is tried again is forgotten with the process, and nothing else: it is tried at once, within the same day, and once it
/// was taken never again.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_no_report_and_sends_none_twice() {
    let mut place = not_taken().await;
    place = place.restarted().await;
    place.world.daemon.report_tls().await;
    assert_eq!(place.reports.asked().len(), 2, "not lost: tried at once");
    place = place.restarted().await;
    place.reports.answers(answer("201 Created", "text/plain", ""));
    place.world.daemon.report_tls().await;
    assert_eq!(place.reports.asked().len(), 3, "taken");

    place = place.restarted().await;
    place.hand.fetch_add(DAY / 2, Ordering::Relaxed);
    place.world.daemon.report_tls().await;
    assert_eq!(place.reports.asked().len(), 3, "and told once");
    place.world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_survives_a_restart() {
    let mut place = place().await;
    place.send().await;
    assert_eq!(place.policy.connections(), 1);
    place = place.restarted().await;
    place.send().await;
    assert_eq!(place.policy.connections(), 1, "OB4: it was remembered");
    let client = Client::new(&place.world.config.admin.socket);
    let known: Vec<StsPolicy> = client.get("/v1/tls/policies").await.unwrap();
    let policy = &known[0];
    assert_eq!((known.len(), policy.domain.as_str(), policy.mode.as_str()), (1, "inbox.test", "testing"));
    assert_eq!((policy.mx.join(" ").as_str(), policy.id.as_str()), ("mx.other.test", "1"));
    assert!(policy.until > policy.fetched, "{policy:?}");
    place.world.end().await.unwrap();
}
