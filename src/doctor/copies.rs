//! Whether mail with secret links is copied: a reset that also goes to staff lets staff in. The mail log's end tells.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use super::Scope;
use crate::config::Classes;
use crate::config::class::Hide;
use crate::seal::judge::Finding;

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
    // A log that is not there yet is no finding: nothing was sent.
    end(&scope.config.log.path).map_or(Vec::new(), |text| findings(&text, &scope.config.classes))
}

fn end(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
    let mut octets = Vec::new();
    file.take(END).read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

/// One finding a tenant and class whose secret links went to several recipients.
fn findings(log: &str, classes: &Classes) -> Vec<Finding> {
    let secret = |name: &str| {
        classes.find(name).is_some_and(|class| class.hide.contains(&Hide::Link) && !class.drop_bcc)
    };
    let mut copied: BTreeMap<(String, String), usize> = BTreeMap::new();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    for line in lines.filter(|line| line.kind == "received" && line.rcpts.is_some_and(|rcpts| rcpts > 1)) {
        if let (Some(tenant), Some(class)) = (line.tenant, line.class.filter(|class| secret(class))) {
            *copied.entry((tenant, class)).or_default() += 1;
        }
    }
    let warn = |((tenant, class), count): ((String, String), usize)| {
        let says = format!(
            "{count} mails of tenant {tenant}, class {class}, lately went to several recipients: each of them got the secret link"
        );
        Finding::warning(
            COPIES,
            says,
            format!(
                "take the BCC away at the platform, or set drop_bcc = true for class {class} (docs/classes.md)"
            ),
        )
    };
    copied.into_iter().map(warn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Class;

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
            assert_eq!(findings(&text, &Classes::default()).len(), count, "{why}");
        }
        let twice = line("received", "password_reset", 3).repeat(2);
        let said = format!("{:?}", findings(&twice, &Classes::default()));
        assert!(
            said.contains("2 mails of tenant acme, class password_reset") && said.contains("drop_bcc"),
            "{said}"
        );
        let all = Classes::default().iter().map(|class| Class { drop_bcc: true, ..class.clone() }).collect();
        assert!(findings(&twice, &Classes::new(all)).is_empty(), "they are dropped already");
    }
}
