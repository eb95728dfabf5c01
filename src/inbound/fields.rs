//! The fields of a report's machine-readable part: RFC 3464 section 2.1 in the form of a header section, in groups parted by
//! empty lines. A stranger wrote them: everything is bounded, and nothing is believed that is not printable.

/// Octets looked at; a report on a thousand recipients has some 300 KiB.
const PART: usize = 512 * 1024;
/// Groups: one for the message, and one for each recipient.
const GROUPS: usize = 1_001;
/// Fields of a group.
const FIELDS: usize = 64;
/// Octets of a value.
const VALUE: usize = 1_024;

/// One group: names in lower case, and values on one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group(Vec<(String, String)>);

impl Group {
    /// The first field of this name (given in lower case).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// What follows the type in `type; value` (RFC 3464 section 2.1.2).
    pub(super) fn typed(&self, name: &str) -> Option<(&str, &str)> {
        let (kind, value) = self.get(name)?.split_once(';')?;
        Some((kind.trim(), value.trim()))
    }
}

/// The groups of a part.
pub(super) fn groups(part: &[u8]) -> Vec<Group> {
    let part = String::from_utf8_lossy(part.get(..PART).unwrap_or(part));
    let mut groups = Vec::new();
    let mut group = Group::default();
    for line in part.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.trim().is_empty() {
            close(&mut groups, &mut group);
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = group.0.last_mut() {
                value.push(' ');
                push(value, line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':')
            && group.0.len() < FIELDS
        {
            let mut kept = String::new();
            push(&mut kept, value.trim());
            group.0.push((name.trim().to_ascii_lowercase(), kept));
        }
    }
    close(&mut groups, &mut group);
    groups
}

fn close(groups: &mut Vec<Group>, group: &mut Group) {
    let group = std::mem::take(group);
    if !group.0.is_empty() && groups.len() < GROUPS {
        groups.push(group);
    }
}

/// Adds text up to the bound; a control character becomes `?`.
fn push(value: &mut String, text: &str) {
    for c in text.chars() {
        if value.len() + c.len_utf8() > VALUE {
            return;
        }
        value.push(if c.is_control() { '?' } else { c });
    }
}
