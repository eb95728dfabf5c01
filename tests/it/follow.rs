//! Waits for what a file comes to say, by word of the kernel (inotify) and not by looking again and again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde_json::Value;
use tokio::sync::mpsc;

/// Longest wait: only a test that has failed comes near it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file that is written to, or will be.
pub struct Follow {
    path: PathBuf,
    news: mpsc::UnboundedReceiver<()>,
}

impl Follow {
    /// Its directory must be there.
    pub fn new(path: &Path) -> Self {
        let watch = inotify::init(CreateFlags::CLOEXEC).unwrap();
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, path.parent().unwrap(), flags).unwrap();
        let (tell, news) = mpsc::unbounded_channel();
        // It ends with the first news that nobody waits for any more.
        std::thread::spawn(move || {
            let mut room = [std::mem::MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(&watch, &mut room);
            while events.next().is_ok() && tell.send(()).is_ok() {}
        });
        Self { path: path.to_owned(), news }
    }

    /// What `look` finds in its text, as soon as it finds anything.
    pub async fn until<T>(&mut self, look: impl Fn(&str) -> Option<T>) -> Option<T> {
        let waiting = async {
            loop {
                let text = std::fs::read_to_string(&self.path).unwrap_or_default();
                if let Some(found) = look(&text) {
                    return found;
                }
                self.news.recv().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.ok()
    }
}

/// The events of a mail log that may be being written: its last line is not whole before its end is there.
pub fn events(text: &str) -> impl Iterator<Item = Value> {
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap())
}

/// A mail log's first event of this type that has this id, or is about it, once it is there.
pub async fn logged(log: &Path, kind: &str, id: &str) -> Value {
    let line = |text: &str| {
        let about = |line: &Value| line["id"] == id || line["about"][0] == id;
        events(text).find(|line| line["type"] == kind && about(line))
    };
    let said = || std::fs::read_to_string(log).unwrap();
    Follow::new(log).until(line).await.unwrap_or_else(|| panic!("no {kind} event for {id}:\n{}", said()))
}
