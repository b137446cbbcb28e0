//! Where variables come from: the environment, and behind it the file `.env` of the current directory
//! (no parent is searched, so that nothing outside the directory can set anything unseen). The
//! process' own environment is left as it is.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io;

use super::reader::ConfigError;
use super::variables::{NOT_YET, VARIABLES};

/// Largest `.env` that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A source of the environment over `.env`; the environment wins, also with an empty value.
///
/// # Errors
/// A `.env` that can't be read, or a variable of piazza that isn't UTF-8.
pub fn environment() -> Result<impl Fn(&str) -> Option<String>, ConfigError> {
    let read = VARIABLES.iter().map(|variable| variable.name);
    for name in read.chain(NOT_YET.iter().copied()) {
        if let Err(env::VarError::NotUnicode(_)) = env::var(name) {
            return Err(ConfigError::new(
                name,
                "holds bytes that are not UTF-8; it takes UTF-8 text",
            ));
        }
    }
    let file = read_file(".env")?;
    Ok(move |name: &str| match env::var(name) {
        Err(env::VarError::NotPresent) => file.get(name).cloned(),
        set => set.ok(),
    })
}

fn read_file(path: &str) -> Result<HashMap<String, String>, ConfigError> {
    let refuse = |error: &dyn std::fmt::Display| {
        ConfigError::new(".env", format_args!("can't be read: {error}"))
    };
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.len() <= MAX_FILE => {}
        Ok(_) => return Err(refuse(&"it is no file of at most 1 MiB")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(refuse(&error)),
    }
    let text = fs::read_to_string(path).map_err(|error| refuse(&error))?;
    parse_file(&text)
}

/// Reads the lines of a `.env`. A line that can't be read is named by its number alone: it may hold
/// a secret.
fn parse_file(text: &str) -> Result<HashMap<String, String>, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut values = HashMap::new();
    for pair in dotenvy::from_read_iter(text.as_bytes()) {
        let (name, value) = pair.map_err(|error| unreadable(text, &error))?;
        // As with `export`, the later of two lines counts.
        values.insert(name, value);
    }
    Ok(values)
}

fn unreadable(text: &str, error: &dotenvy::Error) -> ConfigError {
    let line = match error {
        // What it holds is the rest of the line from where reading failed.
        dotenvy::Error::LineParse(rest, _) => text
            .lines()
            .position(|line| line.trim_end().ends_with(rest.trim_end()))
            .map_or_else(|| "a line".to_owned(), |at| format!("line {}", at + 1)),
        _ => "a line".to_owned(),
    };
    ConfigError::new(
        ".env",
        format_args!(
            "can't be read: {line} is not NAME=value (values with spaces or # need quotes)"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read() {
        let file = "\u{feff}# note\nPORT=1\nexport HOST = '::1'\nPORT=2\nA=\"b c\"\n";
        let values = parse_file(file).unwrap();
        assert_eq!(values["PORT"], "2");
        assert_eq!(values["HOST"], "::1");
        assert_eq!(values["A"], "b c");
    }

    #[test]
    fn an_unreadable_line_is_named_not_shown() {
        let error = parse_file("PORT=1\nJWT_SECRET=open sesame\n").unwrap_err();
        let line = error.to_string();
        assert!(line.contains("line 2"), "{line}");
        assert!(!line.contains("sesame"), "{line}");
    }
}
