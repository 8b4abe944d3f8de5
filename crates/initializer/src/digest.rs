//! What a source says of a file's content, and whether the bytes agree.

use std::io::Read;

use sha2::Digest as _;

/// Bytes that are read at a time.
const BLOCK: usize = 1 << 20;

/// The digest of a file's content, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256 of the content: large files of the hub, and what a user gives.
    Sha256(String),
    /// SHA-1 of the content as a blob of git: small files of the hub.
    GitBlob(String),
    /// MD5 of the content: an object that was stored in S3 in one piece.
    Md5(String),
}

impl Digest {
    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::GitBlob(_) => "git blob SHA-1",
            Self::Md5(_) => "MD5",
        }
    }

    /// As the source has it.
    pub fn expected(&self) -> &str {
        match self {
            Self::Sha256(text) | Self::GitBlob(text) | Self::Md5(text) => text,
        }
    }

    /// The digest of this kind of a content of so many bytes.
    pub fn of(&self, content: &mut impl Read, bytes: u64) -> std::io::Result<String> {
        match self {
            Self::Sha256(_) => {
                let mut hasher = sha2::Sha256::new();
                each(content, |block| hasher.update(block))?;
                Ok(hex::encode(hasher.finalize()))
            }
            Self::GitBlob(_) => {
                let mut hasher = sha1::Sha1::new();
                hasher.update(format!("blob {bytes}\0"));
                each(content, |block| hasher.update(block))?;
                Ok(hex::encode(hasher.finalize()))
            }
            Self::Md5(_) => {
                let mut hasher = md5::Md5::default();
                each(content, |block| md5::Digest::update(&mut hasher, block))?;
                Ok(hex::encode(md5::Digest::finalize(hasher)))
            }
        }
    }
}

fn each(content: &mut impl Read, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut block = vec![0; BLOCK];
    loop {
        let read = match content.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        take(&block[..read]);
    }
}

/// Whether a text is so many bytes in hexadecimal.
pub fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == bytes * 2 && text.bytes().all(|letter| letter.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_published_tools() {
        let digest = |digest: Digest, text: &str| digest.of(&mut text.as_bytes(), text.len() as u64).unwrap();
        let nothing = String::new;
        assert_eq!(
            digest(Digest::Sha256(nothing()), "abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest(Digest::Md5(nothing()), "abc"), "900150983cd24fb0d6963f7d28e17f72");
        // `printf 'hello\n' | git hash-object --stdin`
        assert_eq!(digest(Digest::GitBlob(nothing()), "hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert!(
            is_hex("900150983cd24fb0d6963f7d28e17f72", 16)
                && !is_hex("900150983cd24fb0d6963f7d28e17f72-3", 16)
        );
    }
}
