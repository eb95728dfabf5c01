//! Messages as platforms send them, and as somebody would who wants them read wrongly; each with its class and by what.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

const RESET: &str = "https://acme.test/__/auth/action?mode=resetPassword&oobCode=S3CRET&apiKey=k";
const VERIFY: &str = "https://acme.test/__/auth/action?mode=verifyEmail&oobCode=S3CRET";

/// The classes of the tests: those built in, and rules for From.
fn classes() -> Classes {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("waxseal.toml");
    let text = "hostname = \"relay.test\"\n[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\n\
                [[class]]\nname = \"w9\"\nfrom = [\"tax@\"]\n[[class]]\nname = \"program_email\"\nfrom = [\"news@acme.test\"]\n\
                [[class]]\nname = \"alert\"\nlane = \"urgent\"\nsubject = [\"外部ログイン\"]\n";
    std::fs::write(&path, text).unwrap();
    crate::config::Config::load_with(Some(&path), &|_| None).unwrap().classes
}

struct Case {
    message: String,
    login: Option<&'static str>,
    controls: &'static [&'static str],
    default: Option<&'static str>,
}

fn mail(head: &str, body: &str) -> Case {
    let from = if head.contains("From:") { "" } else { "From: a@acme.test\r\n" };
    Case { message: format!("{from}{head}\r\n{body}"), login: None, controls: &[], default: None }
}

fn text(body: &str) -> Case {
    mail("", body)
}

fn subject(subject: &str) -> Case {
    mail(&format!("Subject: {subject}\r\n"), "hello\r\n")
}

fn part(kind: &str, encoding: &str, body: &str) -> Case {
    mail(&format!("Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n"), body)
}

fn html(link: &str) -> Case {
    part("text/html", "7bit", &format!("<p><a href=\"{}\">here</a></p>", link.replace('&', "&amp;")))
}

fn alternative(plain: &str, html: &str) -> Case {
    let body = format!(
        "--b\r\nContent-Type: text/plain\r\n\r\n{plain}\r\n--b\r\nContent-Type: text/html\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
        STANDARD
            .encode(html)
            .as_bytes()
            .chunks(76)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect::<Vec<_>>()
            .join("\r\n")
    );
    mail("Content-Type: multipart/alternative; boundary=b\r\n", &body)
}

/// Every character that quoted-printable may encode, encoded, in lines of 20.
fn quoted(text: &str) -> String {
    let all: String = text.bytes().map(|octet| format!("={octet:02X}")).collect();
    all.as_bytes().chunks(21).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>().join("=\r\n")
}

fn classed(case: &Case) -> Option<(String, By)> {
    let classes = classes().with_default(case.default);
    let headers = Headers::parse(case.message.as_bytes(), 256 * 1024).unwrap();
    let from = headers.first("From").map(|field| String::from_utf8_lossy(field.value()).trim().to_owned());
    let author = from.and_then(|from| from.parse::<Address>().ok());
    let controls =
        Controls { classes: case.controls.iter().map(|name| (*name).into()).collect(), void: Vec::new() };
    let question = Question {
        classes: &classes,
        login: case.login,
        controls: &controls,
        author: author.as_ref(),
        headers: &headers,
        body: &case.message.as_bytes()[headers.body..],
    };
    let found = classify(&question);
    let explained = explain(&question).into_iter().find_map(|finding| Some((finding.class?, finding.by)));
    assert_eq!(
        found.as_ref().map(|class| (class.name.clone(), class.by)),
        explained,
        "one answer, told or explained"
    );
    found.map(|class| (class.name.to_string(), class.by))
}

type Expected = Option<(&'static str, By)>;

fn check(rows: Vec<(Case, Expected, &str)>) {
    for (case, expected, why) in rows {
        let got = classed(&case);
        assert_eq!(got.as_ref().map(|(name, by)| (name.as_str(), *by)), expected, "{why}:\n{}", case.message);
    }
}

fn header(value: &str) -> Case {
    mail(&format!("X-Waxseal-Class: {value}\r\n"), "")
}

#[test]
fn by_what_the_sender_said() {
    let both = "X-Waxseal-Class: reward\r\nX-Waxseal-Class: w9\r\n";
    let contradicting = "X-Waxseal-Class: reward\r\nSubject: Reset your password\r\nX-Waxseal-Class: w9\r\n";
    check(vec![
        (header("reward"), Some(("reward", By::Header)), "a header"),
        (
            header("  Password_RESET "),
            Some(("password_reset", By::Header)),
            "case and blanks count for nothing",
        ),
        (mail("x-waxseal-CLASS: w9\r\n", ""), Some(("w9", By::Header)), "nor does the case of the name"),
        (
            mail("X-Waxseal-Class:\r\n reward\r\n", ""),
            Some(("reward", By::Header)),
            "folded behind the colon",
        ),
        (header("pasword_reset"), None, "a mistyped class is none"),
        (header(""), None, "nothing"),
        (header("reward, w9"), None, "a list is no class"),
        (header("=?utf-8?q?reward?="), None, "an encoded word is no class"),
        (mail("X-Waxseal-Classes: reward\r\n", ""), None, "another header"),
        (
            mail("Subject: x\r\n X-Waxseal-Class: reward\r\n", ""),
            None,
            "forged through folding: text of the subject",
        ),
        (mail("Subject: x\r\n\tx\r\n X-Waxseal-Class: reward\r\n", ""), None, "the same, deeper"),
        (text("X-Waxseal-Class: reward\r\n"), None, "in the body it is text"),
        (
            mail("X-Waxseal-Class: w9\r\nX-Waxseal-Class: W9\r\n", ""),
            Some(("w9", By::Header)),
            "twice the same",
        ),
        (mail(both, ""), None, "two that contradict one another"),
        (
            mail(contradicting, ""),
            Some(("password_reset", By::Subject)),
            "and then the next source has the word",
        ),
        (
            Case { login: Some("reward"), ..header("w9") },
            Some(("reward", By::Login)),
            "the login is trusted more",
        ),
        (
            Case { controls: &["w9"], ..header("reward") },
            Some(("reward", By::Header)),
            "a header before an address",
        ),
        (Case { controls: &["w9"], ..html(RESET) }, Some(("w9", By::Control)), "an address before a link"),
        (Case { controls: &["w9", "reward"], ..text("") }, None, "two addresses that contradict one another"),
        (Case { controls: &["w9", "w9"], ..text("") }, Some(("w9", By::Control)), "the same twice"),
        (
            Case { login: Some("gone"), ..header("w9") },
            Some(("w9", By::Header)),
            "a login's class that is no more",
        ),
    ]);
}

#[test]
fn by_links() {
    let wrapped = format!(
        "https://go.test/?link={}",
        RESET
            .replace(':', "%3A")
            .replace('/', "%2F")
            .replace('?', "%3F")
            .replace('=', "%3D")
            .replace('&', "%26")
    );
    let reset = Some(("password_reset", By::Link));
    let verify = Some(("verification", By::Link));
    let attached = "--b\r\n\r\nhello\r\n--b\r\nContent-Disposition: attachment; filename=x.txt\r\n\r\nhttps://a.test/?mode=resetPassword&oobCode=1\r\n--b--\r\n";
    let huge = format!("{}{RESET}", "x".repeat(text::SEARCHED_MAX));
    check(vec![
        (text(RESET), reset, "plain text"),
        (text(&format!("Go to <{RESET}>.")), reset, "within marks"),
        (html(RESET), reset, "HTML, with &amp;"),
        (html(VERIFY), verify, "the other mode"),
        (part("text/html", "base64", &STANDARD.encode(format!("<a href='{RESET}'>"))), reset, "base64"),
        (
            part("text/plain", "Quoted-Printable", &quoted(RESET)),
            reset,
            "split over lines in quoted-printable",
        ),
        (
            part(
                "text/plain",
                "quoted-printable",
                &RESET.replace('=', "=3D").replace("resetP", "reset=\r\nP"),
            ),
            reset,
            "as a library writes it",
        ),
        (alternative("hello", &format!("<a href=\"{RESET}\">")), reset, "only in the HTML of an alternative"),
        (alternative(VERIFY, RESET), reset, "two kinds: the more urgent"),
        (text(&format!("{VERIFY}\r\n{RESET}")), reset, "in either order"),
        (text(&wrapped), reset, "a link within a link"),
        (text("https://acme.test/x?oobCode=S3CRET"), None, "an oobCode alone says nothing"),
        (text("https://acme.test/x?oobCode=S3CRET&mode=signIn"), None, "nor does one of another mode"),
        (text("https://acme.test/reset?oobCode=S3CRET"), reset, "unless the path says so"),
        (text("https://acme.test/#/reset?token=S3CRET"), reset, "an application in one page"),
        (text("https://acme.test/verify?token=S3CRET"), verify, "another path"),
        (text("Forgot it? https://acme.test/reset-password"), None, "a footer's link without a token"),
        (text("https://acme.test/help?q=mode%3DresetPassword"), None, "a parameter's value is no parameter"),
        (text("mode=resetPassword&oobCode=1"), None, "no link"),
        (mail("Content-Type: multipart/mixed; boundary=b\r\n", attached), None, "in an attachment"),
        (part("application/pdf", "7bit", RESET), None, "in what is no text"),
        (part("text/html", "base64", "!!!"), None, "what cannot be decoded"),
        (text(&huge), None, "beyond what is looked at"),
        (mail("From: news@acme.test\r\n", RESET), Some(("program_email", By::From)), "From is trusted more"),
        (mail("Subject: Your reward\r\n", RESET), reset, "a link more than a subject"),
    ]);
}

#[test]
fn by_from_subject_and_default() {
    let reset = Some(("password_reset", By::Subject));
    check(vec![
        (mail("From: TAX@acme.test\r\n", ""), Some(("w9", By::From)), "a local part, in any case"),
        (mail("From: news@other.test\r\n", ""), None, "an address in another domain"),
        (subject("Reset your password"), reset, "words"),
        (subject("RE: reset your PASSWORD!"), reset, "case and marks"),
        (subject("Reset\r\n your\r\n password"), reset, "folded"),
        (subject("=?utf-8?B?UmVzZXQgeW91ciBwYXNzd29yZA==?="), reset, "base64 words"),
        (subject("=?utf-8?q?Reset_your?= =?utf-8?q?_password?="), reset, "two encoded words"),
        (subject("Preset your passwords"), None, "not whole words"),
        (subject("Your W-9 is due"), Some(("w9", By::Subject)), "a dash"),
        (subject("Confirm your email to reset password"), reset, "two kinds: the more urgent"),
        (subject("Verify your account: your reward"), Some(("verification", By::Subject)), "by lane"),
        (
            subject("新着：外部ログインのお知らせ"),
            Some(("alert", By::Subject)),
            "a language without spaces, a class of one's own",
        ),
        (
            subject("How we reset password rules: our newsletter"),
            reset,
            "misleading: a guess, so all it does is hurry",
        ),
        (subject("hello"), None, "nothing"),
        (
            Case { default: Some("program_email"), ..subject("hello") },
            Some(("program_email", By::Default)),
            "the default",
        ),
        (
            Case { default: Some("program_email"), ..subject("Your reward") },
            Some(("reward", By::Subject)),
            "comes last",
        ),
        (subject(&"x ".repeat(450)), None, "a long subject"),
    ]);
}

/// What a class is shown by holds no secret: explanations end in terminals and tickets.
#[test]
fn an_explanation_tells_no_secret() {
    let message = format!("From: a@acme.test\r\n\r\n{RESET}");
    let headers = Headers::parse(message.as_bytes(), 1 << 16).unwrap();
    let (classes, controls) = (Classes::default(), Controls::default());
    let question = Question {
        classes: &classes,
        login: None,
        controls: &controls,
        author: None,
        headers: &headers,
        body: &message.as_bytes()[headers.body..],
    };
    let told = format!("{:?}", explain(&question));
    assert!(
        told.contains("mode=resetpassword in a link to acme.test") && !told.to_lowercase().contains("s3cret"),
        "{told}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn any_octets_are_survived(head in "(Subject: [ -~]{0,40}\r\n|X-Waxseal-Class: [ -~]{0,20}\r\n|Content-Type: [ -~]{0,40}\r\n){0,5}",
        body in proptest::collection::vec(any::<u8>(), 0..500)) {
        let message = [head.as_bytes(), b"\r\n", &body].concat();
        if let Ok(headers) = Headers::parse(&message, 1 << 16) {
            let (classes, controls) = (Classes::default(), Controls::default());
            let question = Question { classes: &classes, login: None, controls: &controls, author: None, headers: &headers,
                body: &message[headers.body..] };
            let one = classify(&question);
            let first = explain(&question).into_iter().find_map(|finding| Some(Classed { name: finding.class?, by: finding.by }));
            prop_assert_eq!(one, first);
        }
    }
}
