//! When a name is to be asked about again.

use super::{HOLDS_MAX, SILENCE_MIN, Wanted};
use crate::mail::time::Time;
use crate::seal::facts::Picture;

/// When the first of what is wanted of a name should be asked, by what is known of it; not after `now`: it is due.
#[must_use]
pub fn due(picture: Option<&Picture>, wanted: &Wanted, now: Time) -> Time {
    let Some(picture) = picture else { return now };
    if !wanted.selectors.iter().all(|selector| picture.keys.contains_key(selector)) {
        return now;
    }
    let until = picture.until().filter(|_| answers(picture, wanted));
    let next = until.unwrap_or_else(|| picture.looked.after(SILENCE_MIN));
    // Nothing lies further ahead than an answer can hold: a clock that was set back would keep it for good.
    if next > now.after(HOLDS_MAX) || picture.looked > now { now } else { next }
}

/// Whether SPF was evaluated for every address that our mail leaves from now.
fn answers(picture: &Picture, wanted: &Wanted) -> bool {
    let Some(spf) = &picture.spf else { return false };
    let results = &spf.value.results;
    wanted.egress.iter().all(|address| results.iter().any(|(evaluated, _)| evaluated == address))
}

#[cfg(test)]
mod tests {
    use super::super::unanswered;
    use super::*;
    use crate::seal::facts::{Exchange, KeyAnswer, Known, Presence, SpfAnswer, SpfResult, Walk};

    const NOW: Time = Time(1_700_000_000_000);

    fn at(seconds: i64) -> Time {
        Time(NOW.0.saturating_add_signed(seconds * 1_000))
    }

    fn known<T>(value: T) -> Option<Known<T>> {
        Some(Known { value, seen: at(-60), until: at(60) })
    }

    fn wanted() -> Wanted {
        Wanted {
            domain: "acme.example".parse().unwrap(),
            selectors: vec!["wx1".to_owned()],
            egress: vec!["192.0.2.1".parse().unwrap()],
            hostname: "relay.example".parse().unwrap(),
        }
    }

    fn picture() -> Picture {
        let results = vec![("192.0.2.1".parse().unwrap(), SpfResult::Pass)];
        let mut picture = Picture::blank(wanted().domain);
        picture.presence = known(Presence::Absent);
        picture.exchange = known(Exchange::Null);
        picture.keys.insert("wx1".to_owned(), known(KeyAnswer::default()));
        picture.spf = known(SpfAnswer { results, ..SpfAnswer::default() });
        picture.dmarc = known(Walk::default());
        picture.looked = at(-60);
        picture
    }

    #[test]
    fn a_name_is_due_when_the_first_of_what_is_wanted_of_it_runs_out() {
        type Row = (fn(&mut Picture, &mut Wanted), Time, &'static str);
        let rows: &[Row] = &[
            (|_, _| {}, at(60), "everything holds"),
            (|p, _| p.dmarc.as_mut().unwrap().until = at(5), at(5), "the first that runs out counts"),
            (|_, w| w.selectors.push("wx2".to_owned()), NOW, "a key that nobody looked for"),
            (|_, w| w.egress.push("192.0.2.2".parse().unwrap()), at(-30), "our addresses changed"),
            (|p, _| p.spf = None, at(-30), "never answered, and the last look is a while ago"),
            (
                |p, _| {
                    p.spf = None;
                    p.looked = NOW;
                },
                at(30),
                "never answered, not even just now",
            ),
            (
                |p, _| *p = Picture { looked: Time(0), spf: None, ..p.clone() },
                Time(30_000),
                "never looked at",
            ),
            (|p, _| p.looked = at(3_600), NOW, "the clock was set back since"),
        ];
        for (change, next, why) in rows {
            let (mut picture, mut wanted) = (picture(), wanted());
            change(&mut picture, &mut wanted);
            assert_eq!(due(Some(&picture), &wanted, NOW), *next, "{why}");
        }
        assert_eq!(due(None, &wanted(), NOW), NOW, "of an unknown name nothing is known");
        let mut ahead = picture();
        let far = NOW.after(HOLDS_MAX).after(HOLDS_MAX);
        ahead.presence.as_mut().unwrap().until = far;
        ahead.exchange.as_mut().unwrap().until = far;
        ahead.keys.values_mut().flatten().for_each(|known| known.until = far);
        ahead.spf.as_mut().unwrap().until = far;
        ahead.dmarc.as_mut().unwrap().until = far;
        assert_eq!(due(Some(&ahead), &wanted(), NOW), NOW, "no answer holds so long");
    }

    #[test]
    fn silence_is_asked_again_the_later_the_longer_it_lasts() {
        let rows = [
            (-20, 100, 100, "what still holds is not asked sooner"),
            (-60, 0, 30, "a minute: soon again"),
            (-600, -540, 60, "ten minutes: in a minute"),
            (-86_400, -80_000, 600, "a day: in ten minutes"),
            (7_200, 200_000, 30, "seen before the clock was set back by hours"),
        ];
        for (seen, until, next, why) in rows {
            let known = Known { value: (), seen: at(seen), until: at(until) };
            let after = unanswered(&known, NOW);
            assert_eq!((after.seen, after.until), (known.seen, at(next)), "{why}");
        }
    }
}
