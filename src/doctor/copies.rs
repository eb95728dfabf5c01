//! Whether mail with secret links is copied: a reset that also goes to staff lets staff in. The mail log's end tells.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use super::Scope;
use crate::config::class::Hide;
use crate::config::{Classes, Config};
use crate::seal::judge::Finding;
use crate::tenant::{self, Directory};

const COPIES: &str = "copies";
/// Octets of the mail log that are read, from its end.
const END: u64 = 4 << 20;

/// What counts of a line.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    tenant: Option<String>,
    class: Option<String>,
    rcpts: Option<usize>,
}

pub(super) fn look(scope: &Scope) -> Vec<Finding> {
    of(&scope.config, None)
}

/// The same of one tenant's mail alone, for who looks at its domain.
#[must_use]
pub fn of_tenant(config: &Config, tenant: &str) -> Vec<Finding> {
    of(config, Some(tenant))
}

fn of(config: &Config, only: Option<&str>) -> Vec<Finding> {
    // A log that is not there yet is no finding: nothing was sent.
    let Ok(text) = end(&config.log.path) else { return Vec::new() };
    let tenants = tenant::load(config).ok();
    let mut found = copied(&text, &config.classes, tenants.as_ref());
    found.retain(|(tenant, _), _| only.is_none_or(|only| only == tenant));
    found.into_iter().map(warn).collect()
}

fn end(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
    let mut octets = Vec::new();
    file.take(END).read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

/// How many mails of a tenant and class had secret links and went to several recipients. A tenant's own classes count before the
/// server's.
fn copied(log: &str, classes: &Classes, tenants: Option<&Directory>) -> BTreeMap<(String, String), usize> {
    let secret = |tenant: &str, name: &str| {
        let own = tenants.and_then(|tenants| tenants.tenant(tenant)).map(|tenant| &tenant.classes);
        let class = own.unwrap_or(classes).find(name);
        class.is_some_and(|class| class.hide.contains(&Hide::Link) && !class.drop_bcc)
    };
    let mut copied = BTreeMap::new();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    for line in lines.filter(|line| line.kind == "received" && line.rcpts.is_some_and(|rcpts| rcpts > 1)) {
        if let (Some(tenant), Some(class)) = (line.tenant, line.class)
            && secret(&tenant, &class)
        {
            *copied.entry((tenant, class)).or_default() += 1;
        }
    }
    copied
}

fn warn(((tenant, class), count): ((String, String), usize)) -> Finding {
    let says = format!(
        "{count} mails of tenant {tenant}, class {class}, lately went to several recipients: each of them got the secret link"
    );
    let fix = format!(
        "take the BCC away at the platform, or set drop_bcc = true for class {class} (docs/classes.md)"
    );
    Finding::warning(COPIES, says, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Class;
    use crate::tenant::Tenant;

    fn line(kind: &str, class: &str, rcpts: usize) -> String {
        format!(
            "{{\"v\":1,\"type\":\"{kind}\",\"tenant\":\"acme\",\"class\":\"{class}\",\"rcpts\":{rcpts}}}\n"
        )
    }

    #[test]
    fn what_is_a_copy() {
        let rows = [
            (line("received", "password_reset", 2), 1, "a reset to two"),
            (line("received", "password_reset", 1), 0, "to one"),
            (line("received", "w9", 2), 0, "a class without secret links"),
            (line("attempt", "password_reset", 2), 0, "another event"),
            (line("received", "gone", 2), 0, "a class of the past"),
            ("{\"type\":\"received\"\n".to_owned(), 0, "half a line, where the end of the log begins"),
        ];
        for (text, count, why) in rows {
            assert_eq!(copied(&text, &Classes::default(), None).len(), count, "{why}");
        }
        let twice = line("received", "password_reset", 3).repeat(2);
        let found = copied(&twice, &Classes::default(), None);
        let said = format!("{:?}", found.into_iter().map(warn).collect::<Vec<_>>());
        assert!(
            said.contains("2 mails of tenant acme, class password_reset") && said.contains("drop_bcc"),
            "{said}"
        );
        let all =
            || Classes::default().iter().map(|class| Class { drop_bcc: true, ..class.clone() }).collect();
        assert!(copied(&twice, &Classes::new(all()), None).is_empty(), "they are dropped already");
        let acme = Tenant { classes: Classes::new(all()), ..tenant::tests::tenant("acme", Vec::new()) };
        let tenants = Directory::new([acme]);
        assert!(copied(&twice, &Classes::default(), Some(&tenants)).is_empty(), "the tenant has it so");
    }
}
