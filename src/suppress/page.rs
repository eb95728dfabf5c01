//! The list in the store: pages of some kilobytes, each a memo. An entry added rewrites the tenant's open page, one taken off
//! rewrites the page it stands in; neither costs more than `PAGE`, however long the list is.
//!
//! ```text
//! suppressed/<number mod 16, hexadecimal>/<tenant>/<number, 8 hexadecimal digits>  →  entries (postcard)
//! ```
//!
//! The sixteen portions let a list be read without holding all of it in memory at once.

use std::collections::HashMap;
use std::sync::Arc;

use super::Entry;
use crate::queue::store::Memo;

/// Into how many portions pages are spread.
pub const PORTIONS: u32 = 16;
/// Octets of a page, about: some 120 addresses.
const PAGE: usize = 8 << 10;

/// What every page of a portion is named by.
pub(super) fn portion(portion: u32) -> String {
    format!("suppressed/{portion:x}/")
}

/// The same of one tenant.
pub(super) fn of_tenant(portion: u32, tenant: &str) -> String {
    format!("suppressed/{portion:x}/{tenant}/")
}

/// A page's name.
pub(super) fn key(tenant: &str, number: u32) -> String {
    format!("suppressed/{:x}/{tenant}/{number:08x}", number % PORTIONS)
}

/// A page as it is written; without entries it is forgotten.
pub(super) fn memo(key: String, entries: &[Entry]) -> Memo {
    // Writing to memory cannot fail.
    let value = (!entries.is_empty()).then(|| postcard::to_stdvec(entries).unwrap_or_default());
    Memo { key, value }
}

/// A page as it is read: whose, which, and what stands in it.
pub(super) fn read(key: &str, value: &[u8]) -> Option<(Arc<str>, u32, Vec<Entry>)> {
    let (_, rest) = key.strip_prefix("suppressed/")?.split_once('/')?;
    let (tenant, number) = rest.split_once('/')?;
    let number = u32::from_str_radix(number, 16).ok()?;
    Some((tenant.into(), number, postcard::from_bytes(value).ok()?))
}

/// Where new entries go.
#[derive(Debug, Default)]
pub(super) struct Pages {
    open: HashMap<Arc<str>, Page>,
    /// The first number that no page of the tenant has.
    next: HashMap<Arc<str>, u32>,
}

#[derive(Debug, Default)]
struct Page {
    number: u32,
    entries: Vec<Entry>,
    size: usize,
}

impl Pages {
    /// There is a page of this number.
    pub(super) fn seen(&mut self, tenant: &Arc<str>, number: u32) {
        let next = self.next.entry(Arc::clone(tenant)).or_default();
        *next = (*next).max(number.saturating_add(1));
    }

    /// Puts the entries into pages, and the pages among the memos. Answers each entry with its page's number.
    pub(super) fn place(
        &mut self,
        tenant: &str,
        entries: Vec<Entry>,
        memos: &mut Vec<Memo>,
    ) -> Vec<(Entry, u32)> {
        let mut placed = Vec::with_capacity(entries.len());
        let mut page = self.open.remove(tenant).unwrap_or_else(|| self.fresh(tenant));
        for entry in entries {
            if page.size + entry.size() > PAGE && !page.entries.is_empty() {
                memos.push(memo(key(tenant, page.number), &page.entries));
                page = self.fresh(tenant);
            }
            page.size += entry.size();
            page.entries.push(entry.clone());
            placed.push((entry, page.number));
        }
        memos.push(memo(key(tenant, page.number), &page.entries));
        self.open.insert(tenant.into(), page);
        placed
    }

    /// A page was written anew with these.
    pub(super) fn rewritten(&mut self, tenant: &str, number: u32, entries: &[Entry]) {
        if let Some(page) = self.open.get_mut(tenant).filter(|page| page.number == number) {
            page.entries = entries.to_vec();
            page.size = entries.iter().map(Entry::size).sum();
        }
    }

    /// What the open page holds is not certain any more.
    pub(super) fn doubt(&mut self, tenant: &str) {
        self.open.remove(tenant);
    }

    fn fresh(&mut self, tenant: &str) -> Page {
        let next = self.next.entry(tenant.into()).or_default();
        let number = *next;
        *next = next.saturating_add(1);
        Page { number, ..Page::default() }
    }
}
