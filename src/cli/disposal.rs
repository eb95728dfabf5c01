//! What `classify` says of the ends that an administrator's rules would bring to a message.

use crate::config::Classes;
use crate::config::class::{Suppression, certain};
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
    let by = match certain(classed).and_then(|classed| classes.find(&classed.name)) {
        Some(class) if class.suppression.is_some() => "as the class says",
        Some(_) => "as the tenant has it: the class says nothing",
        None => "as the tenant has it: no class is certain",
    };
    vec![("suppression", format!("{rule}, {by}"))]
}
