//! Finds the file, reads it, and lets `WAXSEAL_*` variables win over it.

use std::path::{Path, PathBuf};

use super::check::{Source, check};
use super::file::{File, PATHS, SECTIONS, TOP_KEYS};
use super::{Config, ConfigError, error};

/// Where the file is looked for when nobody names it.
const USUAL_PLACES: [&str; 2] = ["./config/waxseal.toml", "/etc/waxseal/waxseal.toml"];

/// A view of the environment, so that tests need not change it.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The configuration of `path`, or of the first file there is.
pub(super) fn load(path: Option<&Path>, environment: Environment<'_>) -> Result<Config, ConfigError> {
    let path = find(path, environment)?;
    let text = read(&path)?;
    let mut file: File =
        toml::from_str(&text).map_err(|error| ConfigError::from_toml(&path, &text, &error))?;
    overlay(&mut file, environment)?;
    check(&Source { path: &path, text: &text }, file)
}

/// The file that `load` would read.
pub(super) fn find(path: Option<&Path>, environment: Environment<'_>) -> Result<PathBuf, ConfigError> {
    let named = path.map(Path::to_owned).or_else(|| environment("WAXSEAL_CONFIG").map(PathBuf::from));
    if let Some(named) = named {
        return Ok(named);
    }
    let usual = USUAL_PLACES.iter().map(PathBuf::from).find(|place| place.is_file());
    usual.ok_or_else(|| {
        let what =
            "no such file, nor /etc/waxseal/waxseal.toml; `waxseal init --dir DIR --hostname NAME` makes one";
        ConfigError::whole(Path::new("./config/waxseal.toml"), what)
    })
}

/// The text of a configuration file.
pub(crate) fn read(path: &Path) -> Result<String, ConfigError> {
    let bytes =
        std::fs::read(path).map_err(|error| ConfigError::whole(path, format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        ConfigError::at(path, &text, good, "not UTF-8")
    })
}

/// Lays every variable that is set over the file.
fn overlay(file: &mut File, environment: Environment<'_>) -> Result<(), ConfigError> {
    let top = TOP_KEYS.iter().map(|key| ("", *key));
    let sections = SECTIONS.iter().flat_map(|(name, keys)| keys.iter().map(move |key| (*name, *key)));
    for (section, key) in top.chain(sections) {
        let name = variable(section, key);
        if let Some(value) = environment(&name) {
            let over = read_variable(section, key, &value)
                .map_err(|what| ConfigError::whole(Path::new(&name), what))?;
            file.overlay(over);
        }
    }
    Ok(())
}

/// `delivery`, `port` is `WAXSEAL_DELIVERY_PORT`.
fn variable(section: &str, key: &str) -> String {
    let path = if section.is_empty() { key.to_owned() } else { format!("{section}_{key}") };
    format!("WAXSEAL_{}", path.to_ascii_uppercase())
}

/// A variable's value as TOML (`25`, `["a"]`), as a text, or as a list of texts parted by commas.
fn read_variable(section: &str, key: &str, value: &str) -> Result<File, String> {
    let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
    let parse = |value: &str| toml::from_str::<File>(&format!("{header}{key} = {value}\n"));
    let dotted = format!("{section}.{key}");
    let is_path = PATHS.contains(&dotted.trim_start_matches('.'));
    // A path in the environment is relative to the working directory, unlike one in the file.
    let value = if is_path { absolute(value) } else { value.to_owned() };
    let list = toml::Value::from(value.split(',').map(|one| one.trim().to_owned()).collect::<Vec<_>>());
    let raw = parse(&value);
    let text = parse(&toml::Value::from(value.as_str()).to_string());
    let is_toml = toml::from_str::<toml::Table>(&format!("x = {value}")).is_ok();
    let why = match (&raw, &text) {
        (Err(why), _) if is_toml => error::plain(why.message()),
        (_, Err(why)) => error::plain(why.message()),
        (_, Ok(_)) => String::new(),
    };
    raw.or(text).or_else(|_| parse(&list.to_string())).map_err(|_| why)
}

fn absolute(value: &str) -> String {
    std::path::absolute(value).map_or_else(|_| value.to_owned(), |path| path.display().to_string())
}
