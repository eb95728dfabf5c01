//! What `classify` says of the ends that an administrator's rules would bring to a message.

use super::classify::spelled;
use crate::config::Classes;
use crate::config::class::Suppression;
use crate::mail::class::Classed;
use crate::tenant::Tenant;

/// What would dispose of mail of this class, a name and a value each.
pub(super) fn rules(
    tenant: Option<&Tenant>,
    classes: &Classes,
    classed: Option<&Classed>,
) -> Vec<(&'static str, String)> {
    let usual = tenant.map(|tenant| tenant.suppression.apply).unwrap_or_default();
    let rule = match classes.suppression(classed, usual) {
        Suppression::All => "all",
        Suppression::NoComplaints => "no_complaints",
        Suppression::Off => "off",
    };
    let by = match classes.certain(classed) {
        Some(class) if class.suppression.is_some() => "as the class says",
        Some(_) => "as the tenant has it: the class says nothing",
        None => "as the tenant has it: no class is certain",
    };
    let mut rules = vec![("suppression", format!("{rule}, {by}"))];
    let Some(class) = classes.certain(classed) else { return rules };
    rules.extend(
        class
            .life
            .map(|life| ("life", format!("{}: then it fails, and is not attempted any more", spelled(life)))),
    );
    if class.supersede {
        rules.push((
            "supersede",
            "once a newer one is delivered to a recipient, older ones to the same fail".to_owned(),
        ));
    }
    if class.drop_bcc {
        rules.push((
            "drop_bcc",
            "recipients that stand in no To or Cc fail, but never all of them".to_owned(),
        ));
    }
    if class.one_click {
        rules.push((
            "unsubscribe",
            "one_click: one recipient and no List-Unsubscribe of its own get a link".to_owned(),
        ));
    }
    rules
}
