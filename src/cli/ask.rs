//! Asking the running daemon, and telling it that files changed.

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::output::{Context, Failure};
use crate::config::Config;
use crate::control::Client;
use crate::control::client::AskError;
use crate::control::wire::Done;

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Absent { .. } => Self::Absent(error.to_string()),
            AskError::Unreachable { .. } => Self::Unreachable(error.to_string()),
            AskError::NotFound(what) => Self::NotFound(what),
            AskError::Refused(why) => Self::Bad(why),
        }
    }
}

/// The daemon of this configuration.
pub(super) struct Daemon {
    client: Client,
}

impl Daemon {
    pub(super) fn of(config: &Config) -> Self {
        Self { client: Client::new(&config.admin.socket) }
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        Ok(wait(self.client.get(path))??)
    }

    pub(super) fn bytes(&self, path: &str) -> Result<Vec<u8>, Failure> {
        Ok(wait(self.client.bytes(path))??.to_vec())
    }

    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, order: &impl Serialize) -> Result<T, Failure> {
        Ok(wait(self.client.post(path, order))??)
    }
}

/// Runs one task to its end on this thread.
pub(super) fn wait<F: Future>(task: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(task))
}

impl Context {
    /// The configuration that the command line, the environment or the usual places name.
    ///
    /// # Errors
    /// What is wrong with it: exit code 78.
    pub fn load_config(&self) -> Result<Config, Failure> {
        Config::load(self.config.as_deref()).map_err(|error| Failure::Config(error.to_string()))
    }

    /// After files were changed: lets a running daemon take them over. That none runs is no failure; that it refuses them is.
    ///
    /// # Errors
    /// The daemon refuses what is now in the files, or it cannot be told whether there is one.
    pub fn tell_daemon(&self, config: &Config) -> Result<(), Failure> {
        match Daemon::of(config).post::<Done>("/v1/reload", &()) {
            Ok(done) => {
                self.note(format_args!("the daemon says: {}", done.done));
                Ok(())
            }
            Err(Failure::Absent(_)) => Ok(()),
            Err(Failure::Unreachable(why)) => Err(Failure::Unreachable(format!(
                "the files are changed, but it is not known whether a daemon took them over: {why}"
            ))),
            Err(other) => Err(other),
        }
    }
}
