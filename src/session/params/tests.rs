//! xtext and the DSN parameters, a row a reason.

use super::*;

#[test]
fn xtext_is_strict() {
    let rows = [
        ("a+2Bb", Some("a+b"), "the escape escaped"),
        ("", Some(""), "nothing is nothing"),
        ("+0D+0A", Some("\r\n"), "decoded faithfully; who uses it looks at it"),
        ("+2b", None, "upper-case digits only"),
        ("+2", None, "half an escape"),
        ("+", None, "half an escape"),
        ("a=b", None, "must be escaped"),
        ("a b", None, "must be escaped"),
        ("+FF", None, "not ASCII"),
    ];
    for (text, expected, why) in rows {
        assert_eq!(decode(text).as_deref(), expected, "{text}: {why}");
    }
}

#[test]
fn what_is_asked_is_what_is_kept() {
    let params = mail(" SIZE=7 RET=HDRS ENVID=a+20b BODY=8BITMIME").unwrap();
    assert_eq!((params.size, params.ret, params.envid.as_deref()), (Some(7), Some(Ret::Hdrs), Some("a b")));
    assert!(params.eight_bit_mime && !params.smtputf8);
    let params = rcpt(" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@c").unwrap();
    assert_eq!(params.notify, Notify { success: true, failure: false, delay: true, stated: true });
    assert_eq!(params.orcpt.as_deref(), Some("rfc822;a+2Bb@c"), "kept as it came");
    let params = rcpt("ORCPT=utf-8;jürgen@exämple.test").unwrap();
    assert_eq!(
        params.orcpt.as_deref(),
        Some(r"utf-8;j\x{FC}rgen@ex\x{E4}mple.test"),
        "in the form that goes everywhere"
    );
    assert_eq!(rcpt(r"ORCPT=utf-8;j\x{FC}rgen@b").unwrap().orcpt.as_deref(), Some(r"utf-8;j\x{FC}rgen@b"));
    assert!(rcpt("ORCPT=rfc822;jürgen@b").is_err(), "only of the type that is for it");
    assert!(rcpt(&format!("ORCPT=utf-8;{}", "ü".repeat(100))).is_err(), "too long as it would be kept");
    let never = rcpt("NOTIFY=never").unwrap().notify;
    assert_eq!(never, Notify { success: false, failure: false, delay: false, stated: true });
}
