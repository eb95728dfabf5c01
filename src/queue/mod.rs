//! The durable queue. Knows nothing of SMTP. `store` is the seam that the rest of the house sees; `embedded` stands behind
//! it. docs/queue.md tells the whole.
//!
//! | state on disk | what moves it on | what a crash leaves |
//! |---|---|---|
//! | nothing | `accept` is written | not synced: the message may be there or not; no 250 was given |
//! | `Accept` synced | 250; an attempt is claimed | due, or held, as accepted; a claim is not on disk |
//! | `Accept` or `Note`: held | a release; its `until`, or the message's life, ends | held, with its cause and its end |
//! | `Accept`, attempt under way | a fate is settled (`Note`) | due again; at most the fates of one unsynced group are lost |
//! | `Note`: legs open | the next attempt, a command | due at the time of the last synced `Note`, or held |
//! | `Note`: no leg open, failures owed | the notification's `Accept` names them | owed; the notification and its telling are one record |
//! | `Done` | compaction removes the message, then the word that it ended | ended; a later copy of the message cannot bring it back |
//! | `Memo` synced | a later `Memo` of its key | the last synced word on the key |
//! | a body's own file, no `Accept` | `Accept` is written | a file that nothing names; the message was not accepted |
//! | `Forwarded` missing behind copied records | recovery, again | the copies do not count; the originals do |

pub mod embedded;
mod state;
pub mod store;
