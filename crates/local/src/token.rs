//! Tokens of service accounts: signed by the mesh, in the form in which Kubernetes signs them (JWT, ES256), so that
//! whoever verifies those verifies these.
//!
//! The mesh makes its key by itself. It is kept in the state directory, readable by its owner, with the public half
//! beside it as a key set (`jwks.json`): a state directory that is kept keeps its tokens good.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Value, json};

use crate::status::now;

/// Who issues: Kubernetes' usual name of itself.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Of the private key, in the issuer's directory.
const KEY: &str = "key";
/// Of the public key.
const KEY_SET: &str = "jwks.json";

/// Why there is no key, or no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A file of the key's.
    #[error("the key of service account tokens: {0}")]
    File(#[from] io::Error),
    /// The key is not one. Removing the file makes a new one.
    #[error("the file of the key of service account tokens holds no key")]
    Key,
    /// It could not be signed.
    #[error("signing: {0}")]
    Sign(#[from] p256::ecdsa::Error),
}

/// What signs tokens.
#[derive(Clone)]
pub struct Issuer {
    key: SigningKey,
    /// Names the key by itself: its first coordinate.
    id: String,
}

/// Without its key.
impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Issuer {
    /// The issuer whose key is in `dir`; a new one if there is none.
    pub fn open(dir: &Path) -> Result<Self, TokenError> {
        fs::create_dir_all(dir)?;
        let path = dir.join(KEY);
        let key = match fs::read(&path) {
            Ok(bytes) => SigningKey::from_slice(&bytes).map_err(|_| TokenError::Key)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = random()?;
                let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
                io::Write::write_all(&mut file, &key.to_bytes())?;
                key
            }
            Err(error) => return Err(error.into()),
        };
        let issuer = Self { id: coordinates(&key).0, key };
        fs::write(dir.join(KEY_SET), format!("{:#}\n", issuer.key_set()))?;
        Ok(issuer)
    }

    /// The public half, as a key set (RFC 7517).
    pub fn key_set(&self) -> Value {
        let (x, y) = coordinates(&self.key);
        let key = json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id, "x": x, "y": y,
        });
        json!({"keys": [key]})
    }

    /// A token of `account` in `namespace`, bound to a pod (its name and uid) and good for `seconds`. An empty
    /// audience means the issuer itself.
    pub fn token(
        &self,
        namespace: &str,
        account: &str,
        (pod, uid): (&str, &str),
        audience: &str,
        seconds: u64,
    ) -> Result<String, TokenError> {
        let now = now();
        let audience = if audience.is_empty() { ISSUER } else { audience };
        let header = json!({"alg": "ES256", "kid": self.id, "typ": "JWT"});
        let claims = json!({
            "aud": [audience],
            "exp": now + seconds,
            "iat": now,
            "nbf": now,
            "iss": ISSUER,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "kubernetes.io": {
                "namespace": namespace,
                "pod": {"name": pod, "uid": uid},
                "serviceaccount": {"name": account},
            },
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature: Signature = self.key.try_sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes())))
    }
}

/// A new key.
fn random() -> Result<SigningKey, TokenError> {
    let mut bytes = [0; 32];
    let mut source = fs::File::open("/dev/urandom")?;
    // Of 2^32 draws one is no key.
    loop {
        io::Read::read_exact(&mut source, &mut bytes)?;
        if let Ok(key) = SigningKey::from_slice(&bytes) {
            return Ok(key);
        }
    }
}

/// The coordinates of the public key, in base 64.
fn coordinates(key: &SigningKey) -> (String, String) {
    // Uncompressed: 4, x, y.
    let point = key.verifying_key().to_sec1_bytes();
    let coordinate = |range| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
    (coordinate(1..33), coordinate(33..65))
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::ecdsa::VerifyingKey;
    use p256::ecdsa::signature::Verifier as _;

    fn decoded(part: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(part).unwrap()
    }

    /// Verifies a token by a published key set alone; its claims.
    fn verified(token: &str, key_set: &Value) -> Value {
        let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
        let header: Value = serde_json::from_slice(&decoded(header)).unwrap();
        let keys = key_set["keys"].as_array().unwrap();
        let key = keys.iter().find(|key| key["kid"] == header["kid"]).unwrap();
        let mut point = vec![4];
        for coordinate in ["x", "y"] {
            point.extend(decoded(key[coordinate].as_str().unwrap()));
        }
        let key = VerifyingKey::from_sec1_bytes(&point).unwrap();
        let signature = Signature::from_slice(&decoded(signature)).unwrap();
        let signed = token.rsplit_once('.').unwrap().0;
        key.verify(signed.as_bytes(), &signature).unwrap();
        serde_json::from_slice(&decoded(claims)).unwrap()
    }

    #[test]
    fn a_token_says_who_and_is_verified_by_the_published_key() {
        let dir = tempfile::tempdir().unwrap();
        let issuer = Issuer::open(dir.path()).unwrap();
        let token = issuer.token("shop", "clerk", ("web-0", "u-1"), "istio-ca", 600).unwrap();
        let published: Value = serde_json::from_slice(&fs::read(dir.path().join(KEY_SET)).unwrap()).unwrap();
        let claims = verified(&token, &published);
        assert_eq!(claims["sub"], "system:serviceaccount:shop:clerk");
        assert_eq!((&claims["aud"], &claims["iss"]), (&json!(["istio-ca"]), &json!(ISSUER)));
        assert_eq!(claims["kubernetes.io"]["pod"]["name"], "web-0");
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 600);
    }

    #[test]
    fn a_key_that_is_kept_keeps_tokens_good_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let token = Issuer::open(dir.path()).unwrap().token("a", "b", ("c", "d"), "", 1).unwrap();
        verified(&token, &Issuer::open(dir.path()).unwrap().key_set());
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(dir.path().join(KEY)).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        fs::write(dir.path().join(KEY), "no key").unwrap();
        assert!(matches!(Issuer::open(dir.path()), Err(TokenError::Key)));
    }
}
