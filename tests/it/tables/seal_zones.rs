//! Zones, a line each on what they are, with what the judge says of them and what it tells to publish.
//!
//! In values: `{rsa}` and `{ed}` are our key records, `{other}` is a stranger's, `{p}` the octets of ours, `{bare}` the same as
//! PKCS#1, `{either}` stands for records merged in the order in which DNS happened to give them. Every row begins with a good zone, takes away what `without` names and adds `with`.

use waxseal::seal::judge::Believed::{self, Both, DkimOnly, Fail, SpfOnly};
use waxseal::seal::judge::Finds::{self, Fail as No, Pass as Yes, Unknown as Dark};

/// A zone situation.
pub struct Row {
    pub why: &'static str,
    pub without: &'static [(&'static str, &'static str)],
    pub with: &'static [(&'static str, &'static str, &'static str)],
    pub way: Way,
    pub finds: (Finds, Finds, Believed),
    /// What the findings say, among other things.
    pub says: &'static [&'static str],
    /// Every change that is told, in the findings' order.
    pub told: &'static [&'static str],
}

/// How the mail is sealed and sent.
#[derive(Clone, Copy)]
pub struct Way {
    pub author: &'static str,
    pub signer: &'static str,
    pub sender: &'static str,
    pub keys: &'static [&'static str],
    pub delegated: bool,
    pub direct: bool,
    pub egress: &'static [&'static str],
}

const ACME: &str = "acme.example";
const BOUNCE: &str = "bounce.acme.example";
const NEWS: &str = "news.acme.example";
const KEY: &str = "wx1._domainkey.acme.example";
const KEY2: &str = "wx2._domainkey.acme.example";
const DMARC: &str = "_dmarc.acme.example";
const TARGET: &str = "wx1.acme-example.dkim.relay.example";
const EGRESS: &[&str] = &["192.0.2.1"];

/// The good zone.
pub const GOOD: &[(&str, &str, &str)] = &[
    (ACME, "TXT", "site-verification=1"),
    (ACME, "MX", "10 mx.acme.example."),
    ("mx.acme.example", "A", "198.51.100.25"),
    (KEY, "TXT", "{rsa}"),
    (DMARC, "TXT", "v=DMARC1; p=reject; rua=mailto:dmarc@acme.example"),
    (BOUNCE, "MX", "10 relay.example."),
    (BOUNCE, "TXT", "v=spf1 ip4:192.0.2.1 ~all"),
    (NEWS, "A", "198.51.100.80"),
    ("relay.example", "A", "192.0.2.1"),
    ("spf.provider.example", "TXT", "v=spf1 ip4:198.51.100.0/24 -all"),
];

const PLAIN: Way = Way {
    author: ACME,
    signer: ACME,
    sender: BOUNCE,
    keys: &["wx1"],
    delegated: false,
    direct: true,
    egress: EGRESS,
};
const KEYLESS: Way = Way { keys: &[], ..PLAIN };
const DELEGATED: Way = Way { delegated: true, ..PLAIN };
const FROM_NEWS: Way = Way { author: NEWS, ..PLAIN };

const ROW: Row =
    Row { why: "", without: &[], with: &[], way: PLAIN, finds: (Yes, Yes, Both), says: &[], told: &[] };

const NO_KEY: &[(&str, &str)] = &[(KEY, "TXT")];
const NO_SPF: &[(&str, &str)] = &[(BOUNCE, "TXT")];
const NO_DMARC: &[(&str, &str)] = &[(DMARC, "TXT")];
const SPF_ONLY: (Finds, Finds, Believed) = (No, Yes, SpfOnly);
const DKIM_ONLY: (Finds, Finds, Believed) = (Yes, No, DkimOnly);
const NEITHER: (Finds, Finds, Believed) = (No, No, Fail);
const REFUSED: (Finds, Finds, Believed) = (Yes, Yes, Fail);

const PUBLISH_KEY: &str = "publish wx1._domainkey.acme.example TXT {rsa}";
const REPLACE_KEY: &str = "replace wx1._domainkey.acme.example TXT {rsa}";
const PUBLISH_SPF: &str = "publish bounce.acme.example TXT v=spf1 ip4:192.0.2.1 ~all";

pub const ROWS: &[Row] = &[
    Row {
        why: "all is well",
        says: &["holds our key (RSA-2048)", "lets 192.0.2.1 send", "p=reject applies"],
        ..ROW
    },
    // DKIM: what stands at the selector. SPF carries the mail meanwhile.
    Row {
        why: "the key is not published",
        without: NO_KEY,
        finds: SPF_ONLY,
        says: &["is not published", "breaks where mail is forwarded"],
        told: &[PUBLISH_KEY],
        ..ROW
    },
    Row {
        why: "another key is published",
        without: NO_KEY,
        with: &[(KEY, "TXT", "{other}")],
        finds: SPF_ONLY,
        says: &["holds another key"],
        told: &[REPLACE_KEY],
        ..ROW
    },
    Row {
        why: "the key is revoked",
        without: NO_KEY,
        with: &[(KEY, "TXT", "v=DKIM1; k=rsa; p=")],
        finds: SPF_ONLY,
        says: &["is revoked"],
        told: &[REPLACE_KEY],
        ..ROW
    },
    Row {
        why: "the key is published as PKCS#1, which OpenDKIM cannot read",
        without: NO_KEY,
        with: &[(KEY, "TXT", "v=DKIM1; k=rsa; p={bare}")],
        finds: SPF_ONLY,
        says: &["PKCS#1"],
        told: &[REPLACE_KEY],
        ..ROW
    },
    Row {
        why: "the old record was left beside the new one",
        with: &[(KEY, "TXT", "{other}")],
        finds: SPF_ONLY,
        says: &["holds 2 TXT records"],
        told: &[REPLACE_KEY],
        ..ROW
    },
    Row {
        why: "the key was cut short when it was pasted",
        without: NO_KEY,
        with: &[(KEY, "TXT", "v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8")],
        finds: SPF_ONLY,
        says: &["p= is not base64"],
        told: &[REPLACE_KEY],
        ..ROW
    },
    Row {
        why: "a web form escaped the semicolons",
        without: NO_KEY,
        with: &[(KEY, "TXT", "v=DKIM1\\; k=rsa\\; p={p}")],
        finds: SPF_ONLY,
        says: &["is not v=DKIM1"],
        told: &[REPLACE_KEY],
        ..ROW
    },
    Row {
        why: "h= allows only SHA-1",
        without: NO_KEY,
        with: &[(KEY, "TXT", "v=DKIM1; h=sha1; p={p}")],
        finds: SPF_ONLY,
        says: &["does not allow SHA-256"],
        told: &[REPLACE_KEY],
        ..ROW
    },
    Row {
        why: "s= leaves mail out",
        without: NO_KEY,
        with: &[(KEY, "TXT", "v=DKIM1; s=tlsrpt; p={p}")],
        finds: SPF_ONLY,
        says: &["is not for mail"],
        told: &[REPLACE_KEY],
        ..ROW
    },
    Row {
        why: "k= says another type",
        without: NO_KEY,
        with: &[(KEY, "TXT", "v=DKIM1; k=ed25519; p={p}")],
        finds: SPF_ONLY,
        says: &["k=ed25519"],
        told: &[REPLACE_KEY],
        ..ROW
    },
    Row {
        why: "an SPF record stands where the key belongs",
        without: NO_KEY,
        with: &[(KEY, "TXT", "v=spf1 -all")],
        finds: SPF_ONLY,
        says: &["it has no p="],
        told: &[REPLACE_KEY],
        ..ROW
    },
    Row {
        why: "a wildcard answers for the selector",
        without: NO_KEY,
        with: &[("*._domainkey.acme.example", "TXT", "v=DKIM1; p=")],
        finds: SPF_ONLY,
        says: &["is revoked"],
        told: &[REPLACE_KEY],
        ..ROW
    },
    Row {
        why: "t=y: the domain is only testing",
        without: NO_KEY,
        with: &[(KEY, "TXT", "v=DKIM1; t=y; p={p}")],
        says: &["t=y"],
        told: &[REPLACE_KEY],
        ..ROW
    },
    Row {
        why: "only p=, and white space within it",
        without: NO_KEY,
        with: &[(KEY, "TXT", "p= {p}")],
        says: &["holds our key"],
        ..ROW
    },
    Row {
        why: "delegated: the CNAME is missing",
        way: DELEGATED,
        without: NO_KEY,
        with: &[(TARGET, "TXT", "{rsa}")],
        finds: SPF_ONLY,
        says: &["is not published"],
        told: &["publish wx1._domainkey.acme.example CNAME wx1.acme-example.dkim.relay.example"],
    },
    Row {
        why: "delegated: the CNAME is there, and the key at its target",
        way: DELEGATED,
        without: NO_KEY,
        with: &[(KEY, "CNAME", "wx1.acme-example.dkim.relay.example."), (TARGET, "TXT", "{rsa}")],
        says: &["holds our key"],
        ..ROW
    },
    Row {
        why: "delegated: the CNAME is there, but the relay's own zone lacks the key",
        way: DELEGATED,
        without: NO_KEY,
        with: &[(KEY, "CNAME", "wx1.acme-example.dkim.relay.example.")],
        finds: SPF_ONLY,
        says: &["leads to no key"],
        told: &["publish wx1.acme-example.dkim.relay.example TXT {rsa}"],
    },
    Row {
        why: "delegated: the relay's own zone has the key before the last rotation",
        way: DELEGATED,
        without: NO_KEY,
        with: &[(KEY, "CNAME", "wx1.acme-example.dkim.relay.example."), (TARGET, "TXT", "{other}")],
        finds: SPF_ONLY,
        says: &["holds another key", "through the CNAME"],
        told: &["replace wx1.acme-example.dkim.relay.example TXT {rsa}"],
    },
    Row {
        why: "delegated: the CNAME leads to the provider before us",
        way: DELEGATED,
        without: NO_KEY,
        with: &[
            (KEY, "CNAME", "s1.dkim.provider.example."),
            ("s1.dkim.provider.example", "TXT", "{other}"),
            (TARGET, "TXT", "{rsa}"),
        ],
        finds: SPF_ONLY,
        says: &["through the CNAME to s1.dkim.provider.example"],
        told: &["replace wx1._domainkey.acme.example CNAME wx1.acme-example.dkim.relay.example"],
    },
    Row {
        why: "delegated: a text with another key stands where the CNAME belongs",
        way: DELEGATED,
        without: NO_KEY,
        with: &[(KEY, "TXT", "{other}"), (TARGET, "TXT", "{rsa}")],
        finds: SPF_ONLY,
        says: &["holds another key"],
        told: &["replace wx1._domainkey.acme.example CNAME wx1.acme-example.dkim.relay.example"],
    },
    Row { why: "delegated: our key as text does as well", way: DELEGATED, says: &["holds our key"], ..ROW },
    Row {
        why: "not delegated: a CNAME to the provider before us",
        without: NO_KEY,
        with: &[(KEY, "CNAME", "s1.dkim.provider.example."), ("s1.dkim.provider.example", "TXT", "{other}")],
        finds: SPF_ONLY,
        says: &["holds another key"],
        told: &[REPLACE_KEY],
        ..ROW
    },
    Row {
        why: "RSA and Ed25519, both published",
        way: Way { keys: &["wx1", "wx2"], ..PLAIN },
        with: &[(KEY2, "TXT", "{ed}")],
        says: &["holds our key (RSA-2048)", "holds our key (Ed25519)"],
        ..ROW
    },
    Row {
        why: "RSA published, Ed25519 not yet",
        way: Way { keys: &["wx1", "wx2"], ..PLAIN },
        says: &["signs alone"],
        told: &["publish wx2._domainkey.acme.example TXT {ed}"],
        ..ROW
    },
    Row {
        why: "Ed25519 published, RSA not: some receivers know only RSA",
        way: Way { keys: &["wx1", "wx2"], ..PLAIN },
        without: NO_KEY,
        with: &[(KEY2, "TXT", "{ed}")],
        finds: SPF_ONLY,
        says: &["wx1._domainkey.acme.example is not published"],
        told: &[PUBLISH_KEY],
    },
    Row {
        why: "there is only an Ed25519 key",
        way: Way { keys: &["wx2"], ..PLAIN },
        with: &[(KEY2, "TXT", "{ed}")],
        finds: SPF_ONLY,
        says: &["only an Ed25519 key"],
        ..ROW
    },
    Row {
        why: "there is only an Ed25519 key, and no SPF",
        way: Way { keys: &["wx2"], ..PLAIN },
        without: NO_SPF,
        with: &[(KEY2, "TXT", "{ed}")],
        finds: NEITHER,
        says: &["only an Ed25519 key", "has no SPF record"],
        told: &[PUBLISH_SPF],
    },
    // SPF, where it must carry the mail alone: there is no key.
    Row {
        why: "no SPF record",
        way: KEYLESS,
        without: NO_SPF,
        finds: NEITHER,
        says: &["has no SPF record", "there is no DKIM key"],
        told: &[PUBLISH_SPF],
        ..ROW
    },
    Row {
        why: "SPF denies all",
        way: KEYLESS,
        without: NO_SPF,
        with: &[(BOUNCE, "TXT", "v=spf1 -all")],
        finds: NEITHER,
        says: &["does not let 192.0.2.1 send (fail)"],
        told: &["replace v=spf1 bounce.acme.example TXT v=spf1 ip4:192.0.2.1 -all"],
    },
    Row {
        why: "softfail is no pass",
        way: KEYLESS,
        without: NO_SPF,
        with: &[(BOUNCE, "TXT", "v=spf1 include:spf.provider.example ~all")],
        finds: NEITHER,
        says: &["(softfail)"],
        told: &[
            "replace v=spf1 bounce.acme.example TXT v=spf1 include:spf.provider.example ip4:192.0.2.1 ~all",
        ],
    },
    Row {
        why: "neutral is no pass",
        way: KEYLESS,
        without: NO_SPF,
        with: &[(BOUNCE, "TXT", "v=spf1 a:mx.acme.example ?all")],
        finds: NEITHER,
        says: &["(neutral)"],
        told: &["replace v=spf1 bounce.acme.example TXT v=spf1 a:mx.acme.example ip4:192.0.2.1 ?all"],
    },
    Row {
        why: "a record without an end is neutral",
        way: KEYLESS,
        without: NO_SPF,
        with: &[(BOUNCE, "TXT", "v=spf1 include:spf.provider.example")],
        finds: NEITHER,
        says: &["(neutral)"],
        told: &[
            "replace v=spf1 bounce.acme.example TXT v=spf1 include:spf.provider.example ip4:192.0.2.1 ~all",
        ],
    },
    Row {
        why: "two SPF records: one of them is ours",
        way: KEYLESS,
        with: &[(BOUNCE, "TXT", "v=spf1 include:spf.provider.example -all")],
        finds: NEITHER,
        says: &["2 SPF records"],
        told: &["replace v=spf1 bounce.acme.example TXT {either}"],
        ..ROW
    },
    Row {
        why: "redirect= decides what no mechanism did",
        way: KEYLESS,
        without: NO_SPF,
        with: &[(BOUNCE, "TXT", "v=spf1 redirect=spf.provider.example")],
        finds: NEITHER,
        says: &["(fail)"],
        told: &["replace v=spf1 bounce.acme.example TXT v=spf1 ip4:192.0.2.1 redirect=spf.provider.example"],
    },
    Row {
        why: "an unknown mechanism is a permerror for strict receivers",
        way: KEYLESS,
        without: NO_SPF,
        with: &[(BOUNCE, "TXT", "v=spf1 foo ip4:192.0.2.1 ~all")],
        finds: NEITHER,
        says: &["foo"],
        told: &["replace v=spf1 bounce.acme.example TXT v=spf1 ip4:192.0.2.1 ~all"],
    },
    Row {
        why: "a typing mistake in an address",
        way: KEYLESS,
        without: NO_SPF,
        with: &[(BOUNCE, "TXT", "v=spf1 ip4:300.1.1.1 ip4:192.0.2.1 ~all")],
        finds: NEITHER,
        says: &["ip4:300.1.1.1"],
        told: &["replace v=spf1 bounce.acme.example TXT v=spf1 ip4:192.0.2.1 ~all"],
    },
    Row {
        why: "an include of a name without SPF",
        way: KEYLESS,
        without: NO_SPF,
        with: &[(BOUNCE, "TXT", "v=spf1 include:gone.example ip4:192.0.2.1 ~all")],
        finds: NEITHER,
        says: &["include:gone.example"],
        told: &["replace v=spf1 bounce.acme.example TXT v=spf1 ip4:192.0.2.1 ~all"],
    },
    Row {
        why: "a redirect to a name without SPF",
        way: KEYLESS,
        without: NO_SPF,
        with: &[(BOUNCE, "TXT", "v=spf1 mx redirect=gone.example")],
        finds: NEITHER,
        says: &["gone.example"],
        told: &["replace v=spf1 bounce.acme.example TXT v=spf1 mx ~all"],
    },
    Row {
        why: "an earlier term denies our address",
        way: KEYLESS,
        without: NO_SPF,
        with: &[(BOUNCE, "TXT", "v=spf1 -ip4:192.0.2.0/24 mx ~all")],
        finds: NEITHER,
        says: &["(fail)"],
        told: &["replace v=spf1 bounce.acme.example TXT v=spf1 ip4:192.0.2.1 -ip4:192.0.2.0/24 mx ~all"],
    },
    Row {
        why: "IPv6 is forgotten",
        way: Way { egress: &["192.0.2.1", "2001:db8::25"], ..KEYLESS },
        finds: NEITHER,
        says: &["does not let 2001:db8::25 send"],
        told: &["replace v=spf1 bounce.acme.example TXT v=spf1 ip4:192.0.2.1 ip6:2001:db8::25 ~all"],
        ..ROW
    },
    Row {
        why: "other texts at the name stay when SPF is replaced",
        way: KEYLESS,
        without: NO_SPF,
        with: &[
            (BOUNCE, "TXT", "google-site-verification=abc"),
            (BOUNCE, "TXT", "v=spf1 a:mx.acme.example -all"),
        ],
        finds: NEITHER,
        says: &["(fail)"],
        told: &["replace v=spf1 bounce.acme.example TXT v=spf1 a:mx.acme.example ip4:192.0.2.1 -all"],
    },
    // SPF that passes, or that DKIM makes up for.
    Row {
        why: "the address within a network",
        without: NO_SPF,
        with: &[(BOUNCE, "TXT", "v=spf1 ip4:192.0.2.0/28 -all")],
        ..ROW
    },
    Row {
        why: "the relay's name instead of its address",
        without: NO_SPF,
        with: &[(BOUNCE, "TXT", "v=spf1 a:relay.example -all")],
        ..ROW
    },
    Row {
        why: "the exchangers of the name",
        without: NO_SPF,
        with: &[(BOUNCE, "TXT", "v=spf1 mx -all")],
        ..ROW
    },
    Row {
        why: "an include that names us",
        without: NO_SPF,
        with: &[
            (BOUNCE, "TXT", "v=spf1 include:spf.relay.example -all"),
            ("spf.relay.example", "TXT", "v=spf1 ip4:192.0.2.1 -all"),
        ],
        ..ROW
    },
    Row {
        why: "the bounce domain is a CNAME to the relay's, MX and SPF in one",
        without: &[(BOUNCE, "TXT"), (BOUNCE, "MX")],
        with: &[
            (BOUNCE, "CNAME", "bounces.relay.example."),
            ("bounces.relay.example", "MX", "10 relay.example."),
            ("bounces.relay.example", "TXT", "v=spf1 ip4:192.0.2.1 -all"),
        ],
        ..ROW
    },
    Row {
        why: "+all: passes, and lets anybody send",
        without: NO_SPF,
        with: &[(BOUNCE, "TXT", "v=spf1 +all")],
        says: &["lets anybody send"],
        ..ROW
    },
    Row {
        why: "a mechanism behind all: nobody looks there",
        without: NO_SPF,
        with: &[(BOUNCE, "TXT", "v=spf1 ip4:192.0.2.1 -all mx")],
        says: &["stands behind `all`"],
        ..ROW
    },
    Row {
        why: "eleven lookups",
        without: NO_SPF,
        with: &[(
            BOUNCE,
            "TXT",
            "v=spf1 ip4:192.0.2.1 a:mx.acme.example a:relay.example mx a:mx.acme.example a:relay.example \
                 a:mx.acme.example a:relay.example a:mx.acme.example a:relay.example a:mx.acme.example a:relay.example ~all",
        )],
        finds: DKIM_ONLY,
        says: &["11 lookups"],
        ..ROW
    },
    Row {
        why: "three lookups of nothing",
        without: NO_SPF,
        with: &[(
            BOUNCE,
            "TXT",
            "v=spf1 a:x1.acme.example a:x2.acme.example a:x3.acme.example ip4:192.0.2.1 ~all",
        )],
        finds: DKIM_ONLY,
        says: &["3 names that do not exist"],
        ..ROW
    },
    Row {
        why: "an include of a record with a mistake",
        without: NO_SPF,
        with: &[
            (BOUNCE, "TXT", "v=spf1 ip4:192.0.2.1 include:bad.provider.example ~all"),
            ("bad.provider.example", "TXT", "v=spf1 ip4:1.2.3 -all"),
        ],
        finds: DKIM_ONLY,
        says: &["which bounce.acme.example includes"],
        ..ROW
    },
    Row {
        why: "the sender's own address stays: SPF at the From domain",
        way: Way { sender: ACME, ..PLAIN },
        with: &[(ACME, "TXT", "v=spf1 ip4:192.0.2.1 -all")],
        says: &["acme.example lets 192.0.2.1 send"],
        ..ROW
    },
    Row {
        why: "the sender's own address stays, and SPF there lacks us",
        way: Way { sender: ACME, ..KEYLESS },
        with: &[(ACME, "TXT", "v=spf1 include:spf.provider.example -all")],
        finds: NEITHER,
        says: &["does not let 192.0.2.1 send"],
        told: &["replace v=spf1 acme.example TXT v=spf1 include:spf.provider.example ip4:192.0.2.1 -all"],
        ..ROW
    },
    Row {
        why: "a reverse-path of somebody else's: SPF passes, unaligned",
        way: Way { sender: "bounces.relay.example", ..PLAIN },
        with: &[
            ("bounces.relay.example", "TXT", "v=spf1 ip4:192.0.2.1 -all"),
            ("bounces.relay.example", "MX", "10 relay.example."),
        ],
        finds: DKIM_ONLY,
        says: &["not aligned: the reverse-path's domain is bounces.relay.example"],
        ..ROW
    },
    Row {
        why: "the same without DKIM",
        way: Way { sender: "bounces.relay.example", ..PLAIN },
        without: NO_KEY,
        with: &[
            ("bounces.relay.example", "TXT", "v=spf1 ip4:192.0.2.1 -all"),
            ("bounces.relay.example", "MX", "10 relay.example."),
        ],
        finds: NEITHER,
        says: &["is not published", "not aligned"],
        told: &[PUBLISH_KEY],
    },
    // DMARC.
    Row {
        why: "no DMARC record",
        without: NO_DMARC,
        says: &["has no DMARC record"],
        told: &["publish _dmarc.acme.example TXT v=DMARC1; p=none"],
        ..ROW
    },
    Row {
        why: "two DMARC records",
        with: &[(DMARC, "TXT", "v=DMARC1; p=quarantine; rua=mailto:reports@acme.example")],
        finds: REFUSED,
        says: &["2 DMARC records"],
        told: &["replace v=DMARC1 _dmarc.acme.example TXT {either}"],
        ..ROW
    },
    Row {
        why: "a policy that cannot be read; its reports are kept",
        without: NO_DMARC,
        with: &[(DMARC, "TXT", "v=DMARC1; p=rejct; rua=mailto:dmarc@acme.example")],
        finds: REFUSED,
        says: &["p=rejct cannot be read"],
        told: &["replace v=DMARC1 _dmarc.acme.example TXT v=DMARC1; p=none; rua=mailto:dmarc@acme.example"],
        ..ROW
    },
    Row {
        why: "a DMARC record that says nothing",
        without: NO_DMARC,
        with: &[(DMARC, "TXT", "v=DMARC1")],
        finds: REFUSED,
        says: &["it has no p="],
        told: &["replace v=DMARC1 _dmarc.acme.example TXT v=DMARC1; p=none"],
        ..ROW
    },
    Row {
        why: "no p=, but reports are wanted: p=none",
        without: NO_DMARC,
        with: &[(DMARC, "TXT", "v=DMARC1; rua=mailto:dmarc@acme.example")],
        says: &["p= is missing"],
        told: &["replace v=DMARC1 _dmarc.acme.example TXT v=DMARC1; p=none; rua=mailto:dmarc@acme.example"],
        ..ROW
    },
    Row {
        why: "a DMARC record that no receiver sees",
        without: NO_DMARC,
        with: &[(DMARC, "TXT", "v=dmarc1; p=reject")],
        says: &["which receivers do not take for DMARC"],
        told: &["replace _dmarc.acme.example TXT v=DMARC1; p=reject"],
        ..ROW
    },
    Row {
        why: "tags that RFC 9989 removed",
        without: NO_DMARC,
        with: &[(DMARC, "TXT", "v=DMARC1; p=reject; pct=50; ri=3600")],
        says: &["pct=50 was removed"],
        told: &["replace v=DMARC1 _dmarc.acme.example TXT v=DMARC1; p=reject; pct=50"],
        ..ROW
    },
    Row {
        why: "t=y: new receivers act a level lower",
        without: NO_DMARC,
        with: &[(DMARC, "TXT", "v=DMARC1; p=reject; t=y")],
        says: &["find p=quarantine", "find p=reject"],
        ..ROW
    },
    Row {
        why: "the DMARC record is a CNAME to a shared one",
        without: NO_DMARC,
        with: &[
            (DMARC, "CNAME", "_dmarc.relay.example."),
            ("_dmarc.relay.example", "TXT", "v=DMARC1; p=quarantine"),
        ],
        says: &["p=quarantine applies"],
        ..ROW
    },
    Row {
        why: "reports to another domain that did not agree",
        without: NO_DMARC,
        with: &[(DMARC, "TXT", "v=DMARC1; p=reject; rua=mailto:acme@reports.example")],
        says: &["reports.example has not agreed"],
        told: &["publish acme.example._report._dmarc.reports.example TXT v=DMARC1"],
        ..ROW
    },
    Row {
        why: "reports to another domain that agreed",
        without: NO_DMARC,
        with: &[
            (DMARC, "TXT", "v=DMARC1; p=reject; rua=mailto:acme@reports.example"),
            ("acme.example._report._dmarc.reports.example", "TXT", "v=DMARC1"),
        ],
        says: &["p=reject applies"],
        ..ROW
    },
    Row {
        why: "aspf=s: the bounce domain is not the From domain",
        without: NO_DMARC,
        with: &[(DMARC, "TXT", "v=DMARC1; p=reject; aspf=s")],
        finds: DKIM_ONLY,
        says: &["aspf=s"],
        ..ROW
    },
    Row {
        why: "adkim=s: d= is the From domain",
        without: NO_DMARC,
        with: &[(DMARC, "TXT", "v=DMARC1; p=reject; adkim=s")],
        ..ROW
    },
    Row {
        why: "a subdomain's mail: d= and bounce domain of the organization",
        way: FROM_NEWS,
        says: &["p=reject applies, by the record of acme.example"],
        ..ROW
    },
    Row {
        why: "a subdomain's mail, sp=none",
        way: FROM_NEWS,
        without: NO_DMARC,
        with: &[(DMARC, "TXT", "v=DMARC1; p=reject; sp=none")],
        says: &["p=none applies"],
        ..ROW
    },
    Row {
        why: "a subdomain's mail, both strict: neither is the same name",
        way: FROM_NEWS,
        without: NO_DMARC,
        with: &[(DMARC, "TXT", "v=DMARC1; p=reject; adkim=s; aspf=s")],
        finds: NEITHER,
        says: &["adkim=s", "aspf=s"],
        told: &["replace v=DMARC1 _dmarc.acme.example TXT v=DMARC1; p=reject; aspf=s"],
    },
    Row {
        why: "psd=n makes the subdomain an organization of its own, for new receivers",
        way: FROM_NEWS,
        with: &[("_dmarc.news.acme.example", "TXT", "v=DMARC1; p=reject; psd=n")],
        finds: NEITHER,
        says: &["a psd= tag parts the two"],
        told: &["replace v=DMARC1 _dmarc.news.acme.example TXT v=DMARC1; p=reject"],
        ..ROW
    },
    // The names.
    Row {
        why: "null MX at the From domain",
        without: &[(ACME, "MX")],
        with: &[(ACME, "MX", "0 .")],
        finds: REFUSED,
        says: &["the From domain acme.example has a null MX"],
        told: &["remove acme.example MX"],
        ..ROW
    },
    Row {
        why: "null MX at the reverse-path",
        without: &[(BOUNCE, "MX")],
        with: &[(BOUNCE, "MX", "0 .")],
        finds: REFUSED,
        says: &["the reverse-path's domain bounce.acme.example has a null MX"],
        told: &["replace bounce.acme.example MX 10 relay.example"],
        ..ROW
    },
    Row {
        why: "no MX, but an address",
        without: &[(ACME, "MX")],
        with: &[(ACME, "A", "198.51.100.80")],
        says: &["goes to its own address"],
        ..ROW
    },
    Row {
        why: "neither MX nor address: replies go nowhere",
        without: &[(ACME, "MX")],
        says: &["has neither MX nor address"],
        ..ROW
    },
    Row {
        why: "the From domain does not exist",
        way: Way { author: "typo.acme.example", ..PLAIN },
        finds: REFUSED,
        says: &["typo.acme.example does not exist"],
        told: &["publish typo.acme.example TXT v=spf1 ip4:192.0.2.1 ~all"],
        ..ROW
    },
    // The ways out.
    Row {
        why: "through an upstream: DKIM alone counts",
        way: Way { direct: false, ..PLAIN },
        without: NO_SPF,
        finds: (Yes, Dark, DkimOnly),
        says: &["the last hop is the upstream's"],
        ..ROW
    },
    Row {
        why: "through an upstream, without a key in DNS",
        way: Way { direct: false, ..PLAIN },
        without: NO_KEY,
        finds: (No, Dark, Fail),
        says: &["is not published"],
        told: &[PUBLISH_KEY],
        ..ROW
    },
    Row {
        why: "our addresses are not known: DKIM carries it",
        way: Way { egress: &[], ..PLAIN },
        finds: (Yes, Dark, DkimOnly),
        says: &["are not configured"],
        ..ROW
    },
    Row {
        why: "our addresses are not known, and no key in DNS",
        way: Way { egress: &[], ..PLAIN },
        without: NO_KEY,
        finds: (No, Dark, Fail),
        says: &["is not published"],
        told: &[PUBLISH_KEY],
        ..ROW
    },
    // Nothing at all.
    Row {
        why: "the domain as it was before anybody published anything, p=reject",
        without: &[(KEY, "TXT"), (BOUNCE, "TXT"), (BOUNCE, "MX")],
        finds: NEITHER,
        says: &["is not published", "has no SPF record"],
        told: &[PUBLISH_KEY, PUBLISH_SPF, "publish bounce.acme.example MX 10 relay.example"],
        ..ROW
    },
    Row {
        why: "neither, p=none: providers refuse it all the same",
        without: &[(KEY, "TXT"), (BOUNCE, "TXT"), (DMARC, "TXT")],
        with: &[(DMARC, "TXT", "v=DMARC1; p=none")],
        finds: NEITHER,
        says: &["p=none applies"],
        told: &[PUBLISH_KEY, PUBLISH_SPF],
        ..ROW
    },
    Row {
        why: "neither, and no DMARC record",
        without: &[(KEY, "TXT"), (BOUNCE, "TXT"), (DMARC, "TXT")],
        finds: NEITHER,
        says: &["has no DMARC record"],
        told: &[PUBLISH_KEY, PUBLISH_SPF, "publish _dmarc.acme.example TXT v=DMARC1; p=none"],
        ..ROW
    },
    Row {
        why: "neither, delegated: the record fits a line",
        way: DELEGATED,
        without: &[(KEY, "TXT"), (BOUNCE, "TXT")],
        with: &[(TARGET, "TXT", "{rsa}")],
        finds: NEITHER,
        says: &["is not published"],
        told: &["publish wx1._domainkey.acme.example CNAME wx1.acme-example.dkim.relay.example", PUBLISH_SPF],
    },
];
