//! The pages: plain, the same for everybody, without anything of the mail or its reader in them.

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

/// A page's heading, words, and whether there is a button.
pub(super) type Page = (&'static str, &'static str, bool);

/// Shown before anything happens.
pub(super) const ASK: Page = ("Unsubscribe", "Press the button to get no more mail of this kind.", true);
/// It was done.
pub(super) const DONE: Page = ("Unsubscribed", "You will get no more mail of this kind.", false);
/// No link of ours.
pub(super) const VOID: Page = ("Not a valid link", "This link does not lead to a subscription.", false);
/// Neither a look nor a press of the button.
pub(super) const UNCLEAR: Page = ("Not understood", "Open the link again and press the button.", false);
/// The list could not be written.
pub(super) const LATER: Page =
    ("Not now", "You could not be unsubscribed now. Try again in a few minutes.", false);

const BUTTON: &str = "<form method=\"post\"><input type=\"hidden\" name=\"List-Unsubscribe\" value=\"One-Click\">\
                      <button>Unsubscribe</button></form>";

/// What browsers and search engines may do with it: nothing but show it and send the form back.
const RULES: [(&str, &str); 5] = [
    ("content-security-policy", "default-src 'none'; form-action 'self'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-robots-tag", "noindex"),
    ("cache-control", "no-store"),
];

/// A page as an answer.
pub(super) fn say(status: StatusCode, (heading, words, button): Page) -> Response {
    let button = if button { BUTTON } else { "" };
    let text = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{heading}</title></head>\
         <body><main><h1>{heading}</h1><p>{words}</p>{button}</main></body></html>\n"
    );
    (status, RULES, Html(text)).into_response()
}
