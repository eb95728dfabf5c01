//! Passwords: made, hashed, and compared with their hash.

use argon2::password_hash::SaltString;
use argon2::{Argon2, PasswordHash, PasswordHasher, PasswordVerifier};

use crate::mail::secret::{ExposeSecret, SecretString};

/// Letters and digits that are not mistaken for one another, in a number that divides 256: each is as likely as the next.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz23456789A";
/// 26 letters of 5 bits each: 130 bits, out of reach of any guessing.
const LENGTH: usize = 26;
/// Least length of a password that somebody chose (NIST SP 800-63B section 3.1.1.2 asks for 15 where it stands alone).
pub const CHOSEN_MIN: usize = 15;

/// A password that nobody has to think of.
#[must_use]
pub fn generate() -> SecretString {
    let random: [u8; LENGTH] = rand::random();
    let letter = |byte: &u8| ALPHABET.get(usize::from(byte % 32)).copied().map_or('a', char::from);
    SecretString::from(random.iter().map(letter).collect::<String>())
}

/// The argon2id hash that goes into a tenant's file: RFC 9106's algorithm at OWASP's least parameters (19 MiB, 2 passes),
/// about 20 ms of one core.
///
/// # Errors
/// argon2's, in words.
pub fn hash(password: &SecretString) -> Result<String, String> {
    let salt: [u8; 16] = rand::random();
    let salt = SaltString::encode_b64(&salt).map_err(|error| error.to_string())?;
    let made = Argon2::default().hash_password(password.expose_secret().as_bytes(), &salt);
    made.map(|hash| hash.to_string()).map_err(|error| error.to_string())
}

/// Whether the password has this hash. Takes as long for a wrong one as for a right one.
#[must_use]
pub fn verify(password: &SecretString, hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    Argon2::default().verify_password(password.expose_secret().as_bytes(), &hash).is_ok()
}
