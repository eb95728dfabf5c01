//! An exchanger that keeps accounts: who was taken when, and who may come again. It talks only while its gate is open, so
//! that between a restart and a look at the queue nothing leaves.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What the marks of those begin with whom the exchanger does not know.
pub const REFUSED: &str = "r-";

/// How long the exchanger says nothing before it hangs up.
const SILENCE: Duration = Duration::from_secs(2);

pub struct Sink {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    books: Mutex<Books>,
    change: Condvar,
}

#[derive(Default)]
struct Books {
    open: bool,
    /// Every message is taken; before, 250, 451 and silence come in turn.
    kind: bool,
    turn: u64,
    /// Conversations under way.
    talking: usize,
    round: usize,
    takes: HashMap<String, Take>,
    /// Messages that came again although no kill can have made them.
    wrong: Vec<String>,
    /// Recipients that were refused for good: the sender is to be told, and nothing is to be taken.
    refused: HashSet<String>,
}

/// A message that was taken.
struct Take {
    times: usize,
    /// The round in which it was taken last.
    round: usize,
    /// When its 250 had been written.
    answered: Instant,
    /// It was still queued after the kill that followed: it may come once more.
    again: bool,
}

/// What a kill left of what had been taken since the start before it.
pub struct InFlight {
    /// Taken, and still queued: each of them comes again.
    pub count: usize,
    /// When the first of them was answered.
    pub oldest: Option<Instant>,
}

impl Sink {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accept = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&accept);
                std::thread::spawn(move || {
                    let mut books = shared.wait(|books| books.open);
                    books.talking += 1;
                    drop(books);
                    shared.converse(stream);
                    shared.books().talking -= 1;
                    shared.change.notify_all();
                });
            }
        });
        Self { address, shared }
    }

    /// Lets the exchanger talk, in a new round.
    pub fn open(&self, round: usize) {
        let mut books = self.shared.books();
        (books.open, books.round) = (true, round);
        self.shared.change.notify_all();
    }

    /// The relay has been killed: what it had sent is read to its end, and nobody is talked to any more.
    pub fn close(&self) {
        self.shared.books().open = false;
        drop(self.shared.wait(|books| books.talking == 0));
    }

    pub fn be_kind(&self) {
        self.shared.books().kind = true;
    }

    /// Who is queued after a kill. Answers what was in flight at it, and notes that those may come again.
    pub fn compare(&self, queued: &HashSet<String>) -> InFlight {
        let mut books = self.shared.books();
        let Books { takes, wrong, round, .. } = &mut *books;
        let mut found = InFlight { count: 0, oldest: None };
        for mark in queued {
            let Some(take) = takes.get_mut(mark) else { continue };
            if take.round == *round {
                take.again = true;
                found.count += 1;
                found.oldest = Some(found.oldest.map_or(take.answered, |oldest| oldest.min(take.answered)));
            } else if !take.again {
                wrong.push(format!("{mark} had ended and is queued again"));
            }
        }
        found
    }

    /// Those of these that have neither been taken nor refused.
    pub fn missing<'a>(&self, marks: impl Iterator<Item = &'a String>) -> Vec<String> {
        let books = self.shared.books();
        let known = |mark: &String| books.takes.contains_key(mark) || books.refused.contains(mark);
        marks.filter(|mark| !known(mark)).cloned().collect()
    }

    /// Those that were refused for good.
    pub fn refused(&self) -> HashSet<String> {
        self.shared.books().refused.clone()
    }

    /// Waits until so many more had their turn, or so long.
    pub fn news(&self, turns: u64, most: Duration) {
        let books = self.shared.books();
        let enough = books.turn + turns;
        drop(self.shared.change.wait_timeout_while(books, most, |books| books.turn < enough).unwrap());
    }

    /// How many arrivals were not the first, and those that no kill explains.
    pub fn again(&self) -> (usize, Vec<String>) {
        let books = self.shared.books();
        (books.takes.values().map(|take| take.times - 1).sum(), books.wrong.clone())
    }
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    fn wait(&self, until: impl Fn(&Books) -> bool) -> MutexGuard<'_, Books> {
        self.change.wait_while(self.books(), |books| !until(books)).unwrap()
    }

    fn converse(&self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut out = stream.try_clone().unwrap();
        let mut lines = BufReader::new(stream);
        let (mut line, mut mark) = (String::new(), String::new());
        if out.write_all(b"220 sink ESMTP\r\n").is_err() {
            return;
        }
        loop {
            line.clear();
            if lines.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let verb = line.get(..4).unwrap_or("").to_ascii_uppercase();
            let mut taken = false;
            let answer = match verb.as_str() {
                "EHLO" => "250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
                "RCPT" => {
                    mark = line.split(['<', '@']).nth(1).unwrap_or_default().to_owned();
                    self.welcome(&mark)
                }
                "DATA" if mark.starts_with(REFUSED) => "554 5.5.1 for nobody\r\n",
                "DATA" => {
                    if out.write_all(b"354 go\r\n").is_err() || !read_body(&mut lines) {
                        return;
                    }
                    match self.judge(&mark) {
                        Some(answer) => {
                            taken = answer.starts_with("250");
                            answer
                        }
                        None => {
                            // Silence, until the client is killed or the exchanger hangs up. The relay itself would wait for longer: if
                            // it gave up, a machine that stood still for as long would make it send again what was taken.
                            lines.get_ref().set_read_timeout(Some(SILENCE)).unwrap();
                            let _ = lines.read(&mut [0; 1]);
                            return;
                        }
                    }
                }
                "QUIT" => {
                    let _ = out.write_all(b"221 bye\r\n");
                    return;
                }
                _ => "250 Ok\r\n",
            };
            let sent = out.write_all(answer.as_bytes());
            if taken {
                self.answered(&mark);
            }
            if sent.is_err() {
                return;
            }
        }
    }

    /// Some recipients are nobody: their failure is the message's end, and somebody is to be told.
    fn welcome(&self, mark: &str) -> &'static str {
        if !mark.starts_with(REFUSED) {
            return "250 Ok\r\n";
        }
        self.books().refused.insert(mark.to_owned());
        self.change.notify_all();
        "550 5.1.1 nobody\r\n"
    }

    /// Counts a message as taken before its 250 is written: from here on it may count as delivered.
    fn judge(&self, mark: &str) -> Option<&'static str> {
        let mut books = self.books();
        let (turn, round) = (books.turn, books.round);
        books.turn += 1;
        self.change.notify_all();
        match turn % 24 {
            0 | 12 if !books.kind => return Some("451 4.3.0 not now\r\n"),
            // A silence keeps one of the relay's slots.
            6 if !books.kind => return None,
            _ => {}
        }
        let Books { takes, wrong, .. } = &mut *books;
        match takes.get_mut(mark) {
            None => {
                let take = Take { times: 1, round, answered: Instant::now(), again: false };
                takes.insert(mark.to_owned(), take);
            }
            Some(take) => {
                if !take.again {
                    wrong.push(format!("{mark} came again in round {round}, after round {}", take.round));
                }
                (take.times, take.round, take.again) = (take.times + 1, round, false);
                take.answered = Instant::now();
            }
        }
        Some("250 2.0.0 taken\r\n")
    }

    fn answered(&self, mark: &str) {
        if let Some(take) = self.books().takes.get_mut(mark) {
            take.answered = Instant::now();
        }
    }
}

/// Reads a message to its final dot; false where it breaks off.
fn read_body(lines: &mut impl BufRead) -> bool {
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            return false;
        }
        if line == b".\r\n" {
            return true;
        }
    }
}
