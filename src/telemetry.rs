//! Log lines: one event, one line on standard output, JSON or for people.
//!
//! Every line says which node it is from. An event's fields stand at the top level beside
//! `timestamp`, `level`, `target`, `node` and `message`; a field of one of these names gets a `_`
//! behind it. Spans are not printed: what a line has to say is in the event itself.
//!
//! Lines are written by a thread of their own, behind a bounded queue that drops what doesn't fit: a
//! standard output that nobody reads never holds up the server.

use std::fmt::{self, Write as _};
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::id::NodeId;

/// Lines that wait to be written; more are dropped.
const WAITING_LINES: usize = 16 * 1024;
/// How long the end of the program waits for the last lines.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// Keys that the line itself has.
const OWN_KEYS: [&str; 4] = ["timestamp", "level", "target", "node"];

/// The least severe level that is logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    /// Faults alone.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And what happens to the node.
    Info,
    /// And what happens to each connection.
    Debug,
    /// Everything.
    Trace,
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// Keeps the writing thread. When it is dropped, at the very end of `main`, what still waits is
/// written, for at most two seconds.
#[must_use]
pub struct Guard(Option<WorkerGuard>);

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(worker) = self.0.take() else { return };
        // The worker's own guard prints where it can't get through, and printing to a standard
        // output that is stuck never ends. So it is dropped elsewhere, and not waited for for long.
        let (done, ended) = mpsc::sync_channel(1);
        thread::spawn(move || {
            drop(worker);
            // Nobody waits any more if the limit was reached.
            let _ = done.send(());
        });
        let _ = ended.recv_timeout(FLUSH_LIMIT);
    }
}

/// Sets up logging of `node` for the whole process. Where it is set up already, that one stays.
pub fn init(level: LogLevel, format: LogFormat, node: &NodeId) -> Guard {
    let (writer, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(io::stdout());
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines::new(format, node))
        .with_writer(writer);
    let set = tracing_subscriber::registry()
        .with(filter(level))
        .with(lines)
        .try_init();
    match set {
        Ok(()) => Guard(Some(worker)),
        Err(_) => Guard(None),
    }
}

/// piazza's own events from `level` up; those of its dependencies from `warn` up at most.
fn filter(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(own.min(LevelFilter::WARN))
        .with_target("piazza", own)
}

/// The form of a line.
struct Lines {
    format: LogFormat,
    node: NodeId,
}

impl Lines {
    fn new(format: LogFormat, node: &NodeId) -> Lines {
        Lines {
            format,
            node: node.clone(),
        }
    }

    fn json(&self, line: &Line<'_>) -> String {
        let mut out = String::with_capacity(256);
        out.push('{');
        let level = line.level.as_str().to_ascii_lowercase();
        let own = [
            line.time.as_str(),
            level.as_str(),
            line.target,
            self.node.as_str(),
        ];
        for (key, value) in OWN_KEYS.into_iter().zip(own) {
            push_json(&mut out, key, &Value::from(value));
        }
        push_json(&mut out, "message", &Value::from(line.message()));
        for (key, value) in line.fields() {
            if OWN_KEYS.contains(key) {
                push_json(&mut out, &format!("{key}_"), value);
            } else {
                push_json(&mut out, key, value);
            }
        }
        out.push('}');
        out
    }

    fn pretty(&self, line: &Line<'_>) -> String {
        let mut out = format!("{} {:5} ", line.time, line.level.as_str());
        push_clean(&mut out, line.message());
        for (key, value) in line.fields() {
            out.push_str("  ");
            out.push_str(key);
            out.push('=');
            match value {
                // Quoted only where the words would run together.
                Value::String(text) if !text.is_empty() && !text.contains(char::is_whitespace) => {
                    push_clean(&mut out, text);
                }
                value => push_clean(&mut out, &value.to_string()),
            }
        }
        out.push_str("  node=");
        out.push_str(self.node.as_str());
        out
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::new(event.metadata().level(), event.metadata().target());
        event.record(&mut line);
        let text = match self.format {
            LogFormat::Json => self.json(&line),
            LogFormat::Pretty => self.pretty(&line),
        };
        writeln!(writer, "{text}")
    }
}

/// One event, taken down.
struct Line<'a> {
    time: String,
    level: &'a Level,
    target: &'a str,
    values: Vec<(&'static str, Value)>,
}

impl<'a> Line<'a> {
    fn new(level: &'a Level, target: &'a str) -> Line<'a> {
        Line {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            level,
            target,
            values: Vec::new(),
        }
    }

    fn message(&self) -> &str {
        let message = self.values.iter().find(|(key, _)| *key == "message");
        message.and_then(|(_, value)| value.as_str()).unwrap_or("")
    }

    fn fields(&self) -> impl Iterator<Item = &(&'static str, Value)> {
        self.values.iter().filter(|(key, _)| *key != "message")
    }

    fn take(&mut self, field: &Field, value: impl Into<Value>) {
        self.values.push((field.name(), value.into()));
    }
}

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value);
    }
}

fn push_json(out: &mut String, key: &str, value: &Value) {
    if !out.ends_with('{') {
        out.push(',');
    }
    // Writing to a String never fails.
    let _ = write!(out, "{}:{value}", Value::from(key));
}

/// Control characters escaped: what a client sent must not steer the operator's terminal.
fn push_clean(out: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines_of(format: LogFormat, level: LogLevel, events: impl FnOnce()) -> String {
        let written = Written::default();
        let out = written.clone();
        let node = NodeId::parse("n1").unwrap();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Lines::new(format, &node))
            .with_writer(move || out.clone());
        let subscriber = tracing_subscriber::registry()
            .with(filter(level))
            .with(layer);
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_has_the_node_and_the_fields_at_the_top() {
        let text = lines_of(LogFormat::Json, LogLevel::Info, || {
            let user = "a\"b\n";
            tracing::info!(%user, rooms = 3, ok = true, node = "other", "joined {}", "x\u{1b}");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("{\"timestamp\":\"20"), "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "info");
        assert_eq!(line["node"], "n1");
        assert_eq!(line["node_"], "other");
        assert_eq!(line["message"], "joined x\u{1b}");
        assert_eq!(line["user"], "a\"b\n");
        assert_eq!((&line["rooms"], &line["ok"]), (&3.into(), &true.into()));
    }

    #[test]
    fn pretty_is_one_line_that_steers_no_terminal() {
        let text = lines_of(LogFormat::Pretty, LogLevel::Info, || {
            tracing::warn!(user = "a\u{1b}[2J", name = "b c", "one\ntwo");
        });
        assert!(
            text.ends_with("WARN  one\\ntwo  user=a\\u{1b}[2J  name=\"b c\"  node=n1\n"),
            "{text}"
        );
    }

    #[test]
    fn dependencies_speak_from_warn_up_at_most() {
        let all = || {
            tracing::info!(target: "hyper::proto", "1");
            tracing::warn!(target: "redis", "2");
            tracing::info!(target: "piazza::hub", "3");
            tracing::error!(target: "hyper", "4");
        };
        let seen = |level| {
            let text = lines_of(LogFormat::Pretty, level, all);
            let word = |line: &str| line.split_whitespace().nth(2).unwrap().to_owned();
            text.lines().map(word).collect::<String>()
        };
        assert_eq!(seen(LogLevel::Trace), "234");
        assert_eq!(seen(LogLevel::Warn), "24");
        assert_eq!(seen(LogLevel::Error), "4");
    }
}
