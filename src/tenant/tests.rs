//! Which From domain covers a name; and a tenant for tests of others.

use super::*;

/// A tenant that sends by MX, with these domains.
pub(crate) fn tenant(name: &str, domains: Vec<OwnedDomain>) -> Tenant {
    Tenant {
        name: name.into(),
        networks: Vec::new(),
        notify: Vec::new(),
        logins: Vec::new(),
        domains,
        route: Arc::new(Route::Mx),
        fallbacks: Vec::new(),
        signing: Signing::default(),
        limits: TenantLimits::default(),
        bare_newlines: BareNewlines::default(),
        classes: Classes::default(),
        suppression: SuppressionRules::default(),
    }
}

/// A From domain whose mail is refused if it fails.
pub(crate) fn owned(name: &str, subdomains: bool) -> OwnedDomain {
    OwnedDomain { name: name.parse().unwrap(), on_fail: OnFail::Reject, return_path: None, subdomains }
}

#[test]
fn of_several_domains_that_cover_a_name_the_closest_counts() {
    let domains = vec![
        owned("acme.example", true),
        owned("eu.news.acme.example", false),
        owned("news.acme.example", true),
        owned("shop.acme.example", false),
    ];
    let tenant = tenant("acme", domains);
    let rows = [
        ("acme.example", Some("acme.example"), "itself"),
        ("a.acme.example", Some("acme.example"), "below it"),
        ("news.acme.example", Some("news.acme.example"), "the exact name, though another covers it"),
        ("a.b.news.acme.example", Some("news.acme.example"), "the longest that covers it"),
        ("eu.news.acme.example", Some("eu.news.acme.example"), "exact"),
        ("a.eu.news.acme.example", Some("news.acme.example"), "that one covers nothing below it"),
        ("a.shop.acme.example", Some("acme.example"), "nor does this one"),
        ("badacme.example", None, "another name that ends alike"),
    ];
    for (name, covered, why) in rows {
        let own = tenant.owns(&name.parse().unwrap());
        assert_eq!(own.map(|own| own.name.as_str()), covered, "{name}: {why}");
    }
}

#[test]
fn a_name_belongs_to_the_tenant_whose_domain_is_closest() {
    let directory = Directory::new([
        tenant("acme", vec![owned("acme.example", true)]),
        tenant("news", vec![owned("news.acme.example", false)]),
    ]);
    let rows = [
        ("acme.example", Some("acme"), "its own"),
        ("news.acme.example", Some("news"), "an exact name before one that covers it"),
        ("a.acme.example", Some("acme"), "covered"),
        ("other.example", None, "nobody's"),
    ];
    for (name, owner, why) in rows {
        let covering = directory.covering(&name.parse().unwrap());
        assert_eq!(covering.map(|(tenant, _)| &*tenant.name), owner, "{name}: {why}");
    }
}
