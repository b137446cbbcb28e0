//! Takes one variable from the source, with its default, and says in one line what is wrong with it:
//! its name, what it held, what it takes. What a secret holds is never said, only how long it is.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::variables::Variable;

/// Longest part of a wrong value that an error repeats, in characters.
const SHOWN: usize = 80;

/// Why the configuration can't be used. Displays as one line that names the variable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    subject: &'static str,
    problem: String,
}

impl ConfigError {
    /// An error about `subject` (a variable, or the file it came from). Control characters in
    /// `problem` are escaped, so that it stays one line.
    pub(super) fn new(subject: &'static str, problem: impl fmt::Display) -> ConfigError {
        let mut clean = String::new();
        for c in problem.to_string().chars() {
            if c.is_control() {
                clean.extend(c.escape_default());
            } else {
                clean.push(c);
            }
        }
        ConfigError {
            subject,
            problem: clean,
        }
    }

    fn held(variable: Variable, value: &str, takes: impl fmt::Display) -> ConfigError {
        let shown: String = value.chars().take(SHOWN).collect();
        let more = if shown.len() < value.len() { "…" } else { "" };
        ConfigError::new(
            variable.name,
            format_args!("holds {shown:?}{more}; it takes {takes}"),
        )
    }

    /// The variable that is wrong (or the file, where it can't be read).
    pub fn subject(&self) -> &'static str {
        self.subject
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.subject, self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// A text that is never shown: its `Debug` hides it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Reads variables from a source.
pub(super) struct Reader<'a> {
    source: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a dyn Fn(&str) -> Option<String>) -> Reader<'a> {
        Reader { source }
    }

    /// What was set; an empty value counts as unset.
    pub(super) fn set(&self, name: &str) -> Option<String> {
        (self.source)(name).filter(|value| !value.is_empty())
    }

    /// What was set, or the default, read by `parse`; `None` where there is neither.
    pub(super) fn optional<T>(
        &self,
        variable: Variable,
        takes: impl fmt::Display,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let value = match self.set(variable.name) {
            Some(value) => value,
            None if variable.default.is_empty() => return Ok(None),
            None => variable.default.to_owned(),
        };
        match parse(&value) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(ConfigError::held(variable, &value, takes)),
        }
    }

    /// As `optional`, for a variable that must have a value.
    pub(super) fn required<T>(
        &self,
        variable: Variable,
        takes: impl fmt::Display,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let missing = format!("is not set; it takes {takes}");
        self.optional(variable, takes, parse)?
            .ok_or_else(|| ConfigError::new(variable.name, missing))
    }

    /// A whole number within `range`.
    pub(super) fn whole<T>(
        &self,
        variable: Variable,
        range: RangeInclusive<T>,
    ) -> Result<T, ConfigError>
    where
        T: std::str::FromStr + PartialOrd + fmt::Display,
    {
        let takes = format!("a whole number from {} to {}", range.start(), range.end());
        self.required(variable, takes, |value| {
            value.parse().ok().filter(|number| range.contains(number))
        })
    }

    /// A duration within `range`, as `30s`, `500ms`, `24h`, `7d`, `1h30m`.
    pub(super) fn duration(
        &self,
        variable: Variable,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration, ConfigError> {
        self.required(variable, duration_takes(&range), |value| {
            duration(value, &range)
        })
    }

    /// A size in bytes within `range`, as `16KiB`, `1MiB`, `16384`.
    pub(super) fn size(
        &self,
        variable: Variable,
        range: RangeInclusive<usize>,
    ) -> Result<usize, ConfigError> {
        let takes = format!(
            "a size such as 16KiB or 1MiB, {} to {} bytes",
            range.start(),
            range.end()
        );
        self.required(variable, takes, |value| {
            size(value).filter(|bytes| range.contains(bytes))
        })
    }

    /// A plain text of at most `most` bytes without control characters; `None` where unset.
    pub(super) fn text(
        &self,
        variable: Variable,
        most: usize,
    ) -> Result<Option<String>, ConfigError> {
        let takes = format!("at most {most} bytes without control characters");
        self.optional(variable, takes, |value| {
            (value.len() <= most && !value.contains(char::is_control)).then(|| value.to_owned())
        })
    }

    /// A file's path; `None` where unset. What is the file's content by mistake may be a private key, so it isn't
    /// shown.
    pub(super) fn path(&self, variable: Variable) -> Result<Option<PathBuf>, ConfigError> {
        match self.set(variable.name) {
            Some(value)
                if value.len() > MAX_PATH
                    || value.contains("-----BEGIN")
                    || value.contains(char::is_control) =>
            {
                let problem = "holds what is no path (not shown); it takes the path of a PEM file";
                Err(ConfigError::new(variable.name, problem))
            }
            value => Ok(value.map(PathBuf::from)),
        }
    }

    /// A secret of `least` bytes or more; `None` where unset.
    pub(super) fn secret(
        &self,
        variable: Variable,
        least: usize,
    ) -> Result<Option<Secret>, ConfigError> {
        match self.set(variable.name) {
            Some(value) if value.len() < least => Err(ConfigError::new(
                variable.name,
                format_args!(
                    "holds {} bytes (not shown); it takes at least {least} bytes",
                    value.len()
                ),
            )),
            value => Ok(value.map(Secret::new)),
        }
    }

    /// A secret that callers bring as `Authorization: Bearer`, so of characters that a header carries as
    /// they are, and of `least` of them; `None` where unset.
    pub(super) fn bearer(
        &self,
        variable: Variable,
        least: usize,
    ) -> Result<Option<Secret>, ConfigError> {
        let lengths = least..=MAX_BEARER;
        match self.set(variable.name) {
            Some(value)
                if !lengths.contains(&value.len())
                    || !value.bytes().all(|b| b.is_ascii_graphic()) =>
            {
                let held = value.len();
                let takes =
                    format_args!("it takes {least} to {MAX_BEARER} visible ASCII characters");
                Err(ConfigError::new(
                    variable.name,
                    format_args!("holds {held} bytes (not shown); {takes}"),
                ))
            }
            value => Ok(value.map(Secret::new)),
        }
    }
}

/// Longest secret that goes into a header, in bytes.
const MAX_BEARER: usize = 256;
/// Longest path, in bytes.
const MAX_PATH: usize = 4096;

fn duration_takes(range: &RangeInclusive<Duration>) -> String {
    format!(
        "a duration such as 500ms, 30s, 24h or 7d, from {} to {}",
        humantime::format_duration(*range.start()),
        humantime::format_duration(*range.end())
    )
}

fn duration(text: &str, range: &RangeInclusive<Duration>) -> Option<Duration> {
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| range.contains(duration))
}

/// Reads a duration within `range` from a command line, by the rules of the variables.
///
/// # Errors
/// One line that says what it takes.
pub fn parse_duration(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    duration(text, range).ok_or_else(|| format!("it takes {}", duration_takes(range)))
}

fn size(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("16384", Some(16384)),
            ("16KiB", Some(16384)),
            ("1 MiB", Some(1 << 20)),
            ("7b", Some(7)),
            ("16KB", None),
            ("KiB", None),
            ("-1", None),
            ("1.5MiB", None),
            ("99999999999999999999", None),
            ("99999999999999999MiB", None),
            ("1ö", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }

    #[test]
    fn durations() {
        let range = Duration::from_millis(100)..=Duration::from_secs(7 * 86_400);
        for (text, millis) in [
            ("500ms", Some(500)),
            ("1h30m", Some(5_400_000)),
            ("7d", Some(604_800_000)),
            ("8d", None),
            ("0s", None),
            ("30", None),
            ("-30s", None),
            ("99999999999999999999s", None),
        ] {
            let read = duration(text, &range).map(|d| d.as_millis());
            assert_eq!(read, millis, "{text}");
        }
    }

    #[test]
    fn a_secret_hides_itself() {
        assert_eq!(
            format!("{:?}", Some(Secret::new("s3cret"))),
            "Some([hidden])"
        );
    }

    #[test]
    fn an_error_is_one_line() {
        let error = ConfigError::new("X", "a\nb\u{1b}[0m");
        assert_eq!(error.to_string(), "X a\\nb\\u{1b}[0m");
    }
}
