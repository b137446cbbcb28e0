//! Public keys out of a PEM file (RFC 7468): `PUBLIC KEY`, `RSA PUBLIC KEY`, and the key of a
//! `CERTIFICATE`, of which nothing else counts: neither its dates nor who signed it. Whoever may write the
//! file says which keys are good.

use std::fmt;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::{BadKey, MAX_KEYS, PublicKey};

/// Why a file can't be used. It tells no byte of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BadPem {
    /// It isn't PEM, or a block of it has no end.
    NotPem,
    /// It holds no key.
    Empty,
    /// It holds more than [`MAX_KEYS`].
    TooMany,
    /// The block of that number, from 1, is a private key.
    Private(usize),
    /// The block of that number is neither a key nor a certificate.
    Label(usize),
    /// The key of that number is none that can be used.
    Key(usize, BadKey),
}

impl fmt::Display for BadPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadPem::NotPem => f.write_str("it is not PEM"),
            BadPem::Empty => f.write_str("it holds no key"),
            BadPem::TooMany => write!(f, "it holds more than {MAX_KEYS} keys"),
            BadPem::Private(at) => {
                write!(f, "key {at} is a private key; the public part is needed")
            }
            BadPem::Label(at) => write!(f, "block {at} is neither a public key nor a certificate"),
            BadPem::Key(at, why) => write!(f, "key {at} {why}"),
        }
    }
}

/// All keys of a PEM file, at least one and at most [`MAX_KEYS`].
///
/// # Errors
/// The first thing that is wrong: a file of which a part can't be used isn't used at all.
pub fn read(file: &[u8]) -> Result<Vec<PublicKey>, BadPem> {
    let blocks = pem::parse_many(file).map_err(|_| BadPem::NotPem)?;
    // A block that has no end isn't among them.
    let begun = String::from_utf8_lossy(file).matches("-----BEGIN").count();
    if begun != blocks.len() {
        return Err(BadPem::NotPem);
    }
    match blocks.len() {
        0 => Err(BadPem::Empty),
        1..=MAX_KEYS => {
            let numbered = blocks.iter().zip(1..);
            numbered.map(|(block, at)| key(block, at)).collect()
        }
        _ => Err(BadPem::TooMany),
    }
}

fn key(block: &pem::Pem, at: usize) -> Result<PublicKey, BadPem> {
    let key = match block.tag() {
        "PUBLIC KEY" => PublicKey::from_spki(block.contents()),
        "RSA PUBLIC KEY" => PublicKey::from_pkcs1(block.contents()),
        "CERTIFICATE" => of_certificate(block.contents()),
        label if label.ends_with("PRIVATE KEY") => return Err(BadPem::Private(at)),
        _ => return Err(BadPem::Label(at)),
    };
    key.map_err(|why| BadPem::Key(at, why))
}

fn of_certificate(der: &[u8]) -> Result<PublicKey, BadKey> {
    let der = CertificateDer::from(der);
    let certificate = EndEntityCert::try_from(&der).map_err(|_| BadKey::Unreadable)?;
    PublicKey::from_spki(&certificate.subject_public_key_info())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";

    #[test]
    fn a_file_is_taken_whole_or_not_at_all() {
        let read = |text: &str| read(text.as_bytes());
        assert_eq!(read(ED25519).unwrap().len(), 1);
        assert_eq!(
            read(&format!("# ours\n{ED25519}\n{ED25519}"))
                .unwrap()
                .len(),
            2
        );
        for (text, why) in [
            (String::new(), BadPem::Empty),
            ("a key".into(), BadPem::Empty),
            (
                format!("{ED25519}-----BEGIN PUBLIC KEY-----\nMCow"),
                BadPem::NotPem,
            ),
            (ED25519.replace("MCow", "####"), BadPem::NotPem),
            (ED25519.repeat(MAX_KEYS + 1), BadPem::TooMany),
            (ED25519.replace("PUBLIC", "PRIVATE"), BadPem::Private(1)),
            (ED25519.replace("PUBLIC", "EC PRIVATE"), BadPem::Private(1)),
            (ED25519.replace("PUBLIC KEY", "X509 CRL"), BadPem::Label(1)),
            (
                format!("{ED25519}{}", ED25519.replace("MCow", "MCox")),
                BadPem::Key(2, BadKey::Unreadable),
            ),
            (
                ED25519.replace("PUBLIC KEY", "CERTIFICATE"),
                BadPem::Key(1, BadKey::Unreadable),
            ),
            // X25519: for key agreement.
            (
                ED25519.replace("K2Vw", "K2Vu"),
                BadPem::Key(1, BadKey::Kind),
            ),
        ] {
            assert_eq!(read(&text), Err(why), "{text}");
        }
        let not_text = crate::keys::pem::read(&[0xff, 0x30, 0x82]);
        assert!(not_text.is_err(), "{not_text:?}");
    }
}
