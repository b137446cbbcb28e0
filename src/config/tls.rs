//! `TLS_CERT_FILE` and `TLS_KEY_FILE`: both or neither, and what they hold is looked at before anything
//! binds.

use super::reader::{ConfigError, Reader};
use super::variables as var;
use crate::tls::{TlsFiles, Which};

/// Reads both variables; `None` where neither is set.
pub(super) fn read(reader: &Reader<'_>) -> Result<Option<TlsFiles>, ConfigError> {
    let certificate = reader.path(var::TLS_CERT_FILE)?;
    let key = reader.path(var::TLS_KEY_FILE)?;
    let lonely = |missing: var::Variable, set: var::Variable| {
        let problem = format!("is not set; beside {} it takes a path", set.name);
        ConfigError::new(missing.name, problem)
    };
    let files = match (certificate, key) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(lonely(var::TLS_KEY_FILE, var::TLS_CERT_FILE)),
        (None, Some(_)) => return Err(lonely(var::TLS_CERT_FILE, var::TLS_KEY_FILE)),
        (Some(certificate), Some(key)) => TlsFiles { certificate, key },
    };
    files.check().map_err(|error| {
        let (variable, path, takes) = match error.which {
            Which::Certificate => (
                var::TLS_CERT_FILE,
                &files.certificate,
                "a PEM file of a certificate and those above it",
            ),
            Which::Key => (
                var::TLS_KEY_FILE,
                &files.key,
                "a PEM file of the certificate's private key",
            ),
        };
        ConfigError::new(
            variable.name,
            format_args!("holds {path:?}: {error}; it takes {takes}"),
        )
    })?;
    Ok(Some(files))
}
