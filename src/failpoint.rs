//! Named places at which this process can be told to die, by SIGKILL, as a crash or the kernel would end it. A test names one
//! when it starts the program; nobody else does. Passing an unarmed place is one relaxed load: what is tested is what is
//! shipped (docs/decisions.md).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// The environment variable that arms one: its name, and at which passing, as in `commit.synced:3`.
pub const VARIABLE: &str = "WAXSEAL_FAILPOINT";

macro_rules! places {
    ($($place:ident $name:literal $what:literal)*) => {
        /// A place on a message's way.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Failpoint { $(#[doc = $what] $place,)* }

        impl Failpoint {
            /// All of them, in the order a message travels.
            pub const ALL: &[Self] = &[$(Self::$place,)*];

            /// What it is called.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$place => $name,)* }
            }
        }
    };
}

places! {
    AcceptTaken "accept.taken" "The message is read; nothing has been done with it."
    AcceptSealed "accept.sealed" "It is signed, and the store has not heard of it."
    AcceptDurable "accept.durable" "The store has it; the log has not."
    AcceptLogged "accept.logged" "The log has it; the 250 is not written."
    ReplyWritten "reply.written" "Replies, perhaps a 250, have been written."
    BodyCreated "body.created" "A large body's file exists, empty."
    BodyWritten "body.written" "It is written, and not synced."
    BodySynced "body.synced" "It is synced; its name is not."
    BodyNamed "body.named" "Both are; the journal does not know it."
    CommitGathered "commit.gathered" "A group is about to be written."
    CommitWritten "commit.written" "It is written, and not synced."
    CommitSynced "commit.synced" "It is synced; a fresh segment's name is not."
    CommitNamed "commit.named" "All is durable; nobody knows."
    CommitPublished "commit.published" "The index was told; those who wait were not."
    CommitAnswered "commit.answered" "Everybody was told."
    SegmentMade "segment.made" "The next segment exists; the full one is not cut."
    SegmentCut "segment.cut" "The full one is cut; nothing is in the next."
    IndexTaken "index.taken" "The index took in what is durable."
    IndexSpilled "index.spilled" "A row went to sled."
    IndexClosing "index.closing" "A tidy close: all rows are in sled, its sizes are not."
    IndexClosed "index.closed" "A tidy close: sled is complete."
    RecoverRead "recover.read" "The journal's end is read and cut."
    RecoverMade "recover.made" "The new segment exists, empty."
    RecoverCopied "recover.copied" "What may not have been synced is copied and synced."
    RecoverMarked "recover.marked" "The mark behind it is written."
    ReplayRecord "replay.record" "A record was replayed into the index."
    ReplayDone "replay.done" "The index has caught up; lanes are not filled."
    TurnClaimed "turn.claimed" "Legs are claimed; no attempt has begun."
    AttemptBegun "attempt.begun" "An attempt is about to go out."
    AttemptSent "attempt.sent" "The final dot went out; no reply came."
    AttemptReplied "attempt.replied" "The reply to the final dot came; nothing is settled."
    SettleAsked "settle.asked" "Fates are in the log; the store was not asked."
    SettleDurable "settle.durable" "The store has the fates; nobody knows."
    TellBuilt "tell.built" "A notification is built; the failures are still owed."
    TellAccepted "tell.accepted" "It is in the queue; the failures are not owed any more."
    CompactChosen "compact.chosen" "A segment is to go."
    CompactCopied "compact.copied" "Copies of what lives in it are on their way to the journal."
    CompactPassed "compact.passed" "Nothing needs it any more."
    CompactUnlinked "compact.unlinked" "Its file is removed; the directory is not synced."
    CompactGone "compact.gone" "It has gone; nobody knows."
    ReloadRead "reload.read" "The files are read again; nothing is in force."
    ReloadHalf "reload.half" "Tenants and keys are new, the configuration is old."
    ReloadDone "reload.done" "All is in force."
    DrainBegun "drain.begun" "SIGTERM came; sessions and attempts are under way."
}

/// The armed place's number plus one; 0: none.
static ARMED: AtomicUsize = AtomicUsize::new(0);
/// Passings of it before the fatal one.
static LEFT: AtomicU64 = AtomicU64::new(0);

/// Arms what `VARIABLE` says.
///
/// # Errors
/// No place has that name, or what follows it is no number.
pub fn arm(text: &str) -> Result<(), String> {
    let (name, times) = text.split_once(':').unwrap_or((text, "1"));
    let found = Failpoint::ALL.iter().find(|place| place.name() == name);
    let place = found.ok_or_else(|| format!("{VARIABLE}: there is no place called `{name}`"))?;
    let times: u64 = times.parse().map_err(|_| format!("{VARIABLE}: `{times}` is no number of times"))?;
    LEFT.store(times.saturating_sub(1), Ordering::SeqCst);
    ARMED.store(*place as usize + 1, Ordering::SeqCst);
    Ok(())
}

/// Passes a place; if it is the armed one, perhaps for the last time.
pub fn pass(place: Failpoint) {
    if ARMED.load(Ordering::Relaxed) == place as usize + 1 {
        armed();
    }
}

#[cold]
fn armed() {
    let earlier = LEFT.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    if earlier.is_ok() {
        return;
    }
    // Nothing that has to be tidied is tidied: that is the point.
    if kill_process(getpid(), Signal::KILL).is_ok() {
        loop {
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_armed_is_said() {
        for (text, says) in [
            ("commit.sinked", "no place called `commit.sinked`"),
            ("commit.synced:often", "`often` is no number of times"),
        ] {
            assert!(arm(text).unwrap_err().contains(says), "{text}");
        }
        pass(Failpoint::CommitSynced);
    }

    #[test]
    fn an_armed_place_is_survived_until_its_time_and_others_always() {
        arm("compact.gone:1000000").unwrap();
        pass(Failpoint::CompactGone);
        pass(Failpoint::CompactCopied);
        assert_eq!(LEFT.load(Ordering::SeqCst), 999_998);
    }

    #[test]
    fn names_tell_places_apart() {
        let mut names: Vec<_> = Failpoint::ALL.iter().map(|place| place.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Failpoint::ALL.len());
        assert!(names.len() >= 30, "accept, commit, index, deliver, settle, compaction, reload");
    }
}
