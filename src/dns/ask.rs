//! Questions about what a domain publishes, asked past the cache: who just published a record must not wait for what we
//! remember. Every answer says how long it is good for.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::{ADDRESSES_MAX, Failure, NEGATIVE_TTL_MAX, Resolver, plain};

/// Records taken from one answer; the rest is not looked at.
const RECORDS_MAX: usize = 100;
/// Octets taken from one record: no record of mail's is as long.
const TEXT_MAX: usize = 16 * 1024;

/// An answer, also that there is nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said<T> {
    /// What DNS said.
    pub value: T,
    /// For how long, as the zone says.
    pub ttl: Duration,
}

/// What stands at a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// Whether the name exists.
    pub exists: bool,
    /// The name that a CNAME at it leads to.
    pub alias: Option<String>,
    /// Its TXT records, strings joined; octets that are no UTF-8 are replaced.
    pub records: Vec<String>,
}

/// Where the zone of a name begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Zone {
    /// The name exists, in the zone of this name.
    In(Option<String>),
    /// The name does not exist.
    Nowhere,
}

/// What an answer denies.
struct Denied {
    exists: bool,
    zone: Option<String>,
    ttl: Duration,
}

impl Resolver {
    /// The TXT records of a name.
    ///
    /// # Errors
    /// `Transient`: DNS said nothing.
    pub async fn texts(&self, name: &str) -> Result<Said<Texts>, Failure> {
        let value = |found: &Lookup| Texts {
            exists: true,
            alias: alias(found),
            records: found
                .answers()
                .iter()
                .filter_map(|record| text(&record.data))
                .take(RECORDS_MAX)
                .collect(),
        };
        let none = |denied: &Denied| Texts { exists: denied.exists, ..Texts::default() };
        self.ask(name, RecordType::TXT, value, none).await
    }

    /// The MX records of a name: preference and host, `.` being the empty name.
    ///
    /// # Errors
    /// `Transient`: DNS said nothing.
    pub async fn exchangers(&self, name: &str) -> Result<Said<Vec<(u16, String)>>, Failure> {
        let one = |data: &RData| match data {
            RData::MX(mx) => Some((mx.preference, plain(&mx.exchange))),
            _ => None,
        };
        let value = |found: &Lookup| {
            let mut all: Vec<_> = found.answers().iter().filter_map(|record| one(&record.data)).collect();
            all.sort();
            all.truncate(RECORDS_MAX);
            all
        };
        self.ask(name, RecordType::MX, value, |_| Vec::new()).await
    }

    /// The addresses of a name, of both families.
    ///
    /// # Errors
    /// `Transient`: DNS said nothing about one of them.
    pub async fn addresses_now(&self, name: &str) -> Result<Said<Vec<IpAddr>>, Failure> {
        let value = |found: &Lookup| -> Vec<IpAddr> {
            let all = found.answers().iter().filter_map(|record| record.data.ip_addr());
            all.take(ADDRESSES_MAX).collect()
        };
        let (four, six) = tokio::join!(
            self.ask(name, RecordType::A, value, |_| Vec::new()),
            self.ask(name, RecordType::AAAA, value, |_| Vec::new())
        );
        let (mut four, six) = (four?, six?);
        four.value.extend(six.value);
        Ok(Said { value: four.value, ttl: four.ttl.min(six.ttl) })
    }

    /// Whether a name exists, and in whose zone.
    ///
    /// # Errors
    /// `Transient`: DNS said nothing.
    pub async fn zone(&self, name: &str) -> Result<Said<Zone>, Failure> {
        let value = |found: &Lookup| {
            let soa = found.answers().iter().find(|record| matches!(record.data, RData::SOA(_)));
            Zone::In(soa.map(|record| plain(&record.name)))
        };
        let none =
            |denied: &Denied| if denied.exists { Zone::In(denied.zone.clone()) } else { Zone::Nowhere };
        self.ask(name, RecordType::SOA, value, none).await
    }

    /// The names that an address points back to.
    ///
    /// # Errors
    /// `Transient`: DNS said nothing.
    pub async fn names_of(&self, address: IpAddr) -> Result<Said<Vec<String>>, Failure> {
        let one = |data: &RData| match data {
            RData::PTR(name) => Some(plain(name)),
            _ => None,
        };
        let value = |found: &Lookup| -> Vec<String> {
            found.answers().iter().filter_map(|record| one(&record.data)).take(RECORDS_MAX).collect()
        };
        let name = Name::from(address).to_ascii();
        self.ask(&name, RecordType::PTR, value, |_| Vec::new()).await
    }

    async fn ask<T>(
        &self,
        name: &str,
        kind: RecordType,
        value: impl Fn(&Lookup) -> T,
        none: impl Fn(&Denied) -> T,
    ) -> Result<Said<T>, Failure> {
        // A name that cannot be written in DNS is not in it.
        let Ok(mut asked) = Name::from_ascii(name) else {
            let denied = Denied { exists: false, zone: None, ttl: NEGATIVE_TTL_MAX };
            return Ok(Said { value: none(&denied), ttl: denied.ttl });
        };
        asked.set_fqdn(true);
        match tokio::time::timeout(self.timeout, self.fresh.lookup(asked, kind)).await {
            Ok(Ok(found)) => Ok(Said { value: value(&found), ttl: ttl(&found) }),
            Ok(Err(error)) => {
                let denied = denied(&error)?;
                Ok(Said { value: none(&denied), ttl: denied.ttl })
            }
            Err(_) => Err(Failure::Transient("the lookup timed out".into())),
        }
    }
}

/// The shortest life of an answer's records.
fn ttl(found: &Lookup) -> Duration {
    let least = found.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
    Duration::from_secs(least.into())
}

fn alias(found: &Lookup) -> Option<String> {
    found.answers().iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *found.query().name() => Some(plain(&target.0)),
        _ => None,
    })
}

fn text(data: &RData) -> Option<String> {
    let RData::TXT(txt) = data else { return None };
    let octets: Vec<u8> =
        txt.txt_data.iter().flat_map(|string| string.iter().copied()).take(TEXT_MAX).collect();
    Some(String::from_utf8_lossy(&octets).into_owned())
}

fn denied(error: &NetError) -> Result<Denied, Failure> {
    let failure = super::failure(error);
    let (NetError::Dns(DnsError::NoRecordsFound(none)), false) =
        (error, matches!(failure, Failure::Transient(_)))
    else {
        return Err(failure);
    };
    Ok(Denied {
        exists: none.response_code != ResponseCode::NXDomain,
        zone: none.soa.as_ref().map(|soa| plain(&soa.name)),
        ttl: Duration::from_secs(none.negative_ttl.unwrap_or_default().into()),
    })
}
