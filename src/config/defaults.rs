//! Every default in one place, each with its source. `docs/configuration.md` lists them for operators.

use std::time::Duration;

use super::{Delivery, Dns, Dnssec, Limits, Queue, Seal};
use crate::memory;

const MIB: u64 = 1024 * 1024;

/// What is taken for the memory there is where the system does not say.
const MACHINE: u64 = 1024 * MIB;

/// One part in so many of the memory there is, at most a gibibyte.
fn part(parts: u64) -> u64 {
    (memory::given().unwrap_or(MACHINE) / parts).clamp(MIB, 1024 * MIB)
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

const fn hours(count: u64) -> Duration {
    minutes(60 * count)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2000,
            connections_per_address: 200,
            message_size: 25 * MIB, // what Gmail and Microsoft 365 take by default
            body_memory: part(4),
            recipients: 1000,            // RFC 5321 section 4.5.3.1.8 asks for at least 100
            errors: 20,                  // Postfix smtpd_hard_error_limit
            junk_commands: 100,          // Postfix smtpd_junk_command_limit
            command_timeout: minutes(5), // RFC 5321 section 4.5.3.2.7
            data_timeout: minutes(3),    // RFC 5321 section 4.5.3.2.5
            handshake_timeout: seconds(30),
            minimum_rate: 500, // Postfix smtpd_min_data_rate
            hello_wait: Duration::from_millis(300),
            header_size: 256 * 1024, // Postfix allows 100 KiB a header
            hops: 100,               // RFC 5321 section 6.3: normally at least 100
            deliver_by: seconds(10), // a connection with TLS that is not the fastest
        }
    }
}

impl Default for Seal {
    fn default() -> Self {
        // M3AAWG's key rotation practices suggest 6 months; never, for a key in a TXT record is somebody's work.
        Self { hold_max: hours(3 * 24), rotate_after: Duration::ZERO }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            // Needs name servers that pass signatures on, and not every one does.
            dnssec: Dnssec::Off,
            trust_anchors: None,
            timeout: seconds(5), // resolv.conf(5): 5 s
        }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            port: 25,
            sources: Vec::new(),
            source: Vec::new(),
            public_addresses: Vec::new(),
            allow_private_destinations: false,
            allow_destinations: Vec::new(),
            ca_file: None,
            mta_sts: true,
            mta_sts_port: 443, // RFC 8461 section 3.2: https
            tls_reports: true,
            concurrency: 500,
            concurrency_per_destination: 20, // Postfix default_destination_concurrency_limit
            // Hosts of one provider by whatever name: Gmail and Workspace, Yahoo and AOL, iCloud, Outlook.com.
            sites: ["google.com", "yahoodns.net", "icloud.com", "olc.protection.outlook.com"]
                .iter()
                .filter_map(|name| name.parse().ok())
                .collect(),
            rest_max: minutes(10),
            messages_per_connection: 100,
            idle: seconds(5),
            retry: vec![minutes(5), minutes(15), minutes(30), hours(1), hours(2), hours(4)],
            give_up: hours(5 * 24), // RFC 5321 section 4.5.4.1: at least 4 to 5 days
            delay_notice: hours(4),
            gather: minutes(1),
            drain: seconds(30),
            connect_timeout: seconds(30),   // Postfix smtp_connect_timeout
            command_timeout: minutes(5),    // RFC 5321 sections 4.5.3.2.1 to 4.5.3.2.3
            data_init_timeout: minutes(2),  // RFC 5321 section 4.5.3.2.4
            data_block_timeout: minutes(3), // RFC 5321 section 4.5.3.2.5
            data_done_timeout: minutes(10), // RFC 5321 section 4.5.3.2.6
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            window: 100_000,
            body_cache: 32 * MIB,
            read_memory: part(8),
            index_cache: 32 * MIB,
            disk_reserve: 256 * MIB,
        }
    }
}
