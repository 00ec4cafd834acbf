//! Certificates and tokens that others vouch for: TLS, client certificates, and an identity provider on loopback that
//! rotates its keys and goes down.
//!
//! Not here: keys of our own (`access`).

use crate::access::{entries, principal};
use crate::program::{Service, events};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// An authority that makes certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key, as PEM.
    fn make(&self, common_name: &str, names: Vec<SanType>) -> (String, String) {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = names;
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

fn spiffe(id: &str) -> Vec<SanType> {
    vec![SanType::URI(id.try_into().unwrap())]
}

/// A client that trusts only this authority, and shows a certificate.
fn showing(trusts: &Authority, shown: Option<&(String, String)>) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(trusts.0.pem().as_bytes()).unwrap();
    let builder = reqwest::Client::builder().tls_built_in_root_certs(false).add_root_certificate(root);
    let identity = shown.map(|(chain, key)| reqwest::Identity::from_pem(format!("{chain}{key}").as_bytes()).unwrap());
    match identity {
        Some(identity) => builder.identity(identity).build().unwrap(),
        None => builder.build().unwrap(),
    }
}

fn settings(folder: &Path, text: &str) -> String {
    let path = folder.join("settings.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_string()
}

#[tokio::test]
async fn workloads_prove_who_they_are_by_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let (own, clients, others) = (Authority::new("own"), Authority::new("clients"), Authority::new("others"));
    let (chain, key) = own.make("piperoll", vec![SanType::IpAddress("127.0.0.1".parse().unwrap())]);
    for (name, text) in [("chain.pem", &chain), ("key.pem", &key), ("clients.pem", &clients.0.pem())] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let at = |name: &str| folder.path().join(name).display().to_string();
    let text = format!(
        "[tls]\ncertificate = {:?}\nkey = {:?}\nclients = {:?}\n",
        at("chain.pem"),
        at("key.pem"),
        at("clients.pem")
    );
    let config = settings(folder.path(), &text);
    let data = folder.path().join("data");
    let service = Service::start(&data, &["--config", &config]);
    assert!(service.url.starts_with("https://"));
    principal(&service, "billing-service", Some("acme"), "ingest-service", &["acme"]);
    service.change(&[
        json!({"change": "identity.bind", "principal": "billing-service", "certificate": "spiffe://acme/billing"}),
        json!({"change": "identity.bind", "principal": "billing-service", "certificate": "CN=billing-by-name"}),
    ]);
    let post = |client: reqwest::Client, n: usize| {
        let request = client.post(format!("{}/v1/events", service.url)).body(events("acme", n, 1));
        async move { request.send().await.map(|answer| answer.status().as_u16()) }
    };
    let by_id = clients.make("whatever", spiffe("spiffe://acme/billing"));
    let by_name = clients.make("billing-by-name", vec![]);
    let stranger = clients.make("stranger", spiffe("spiffe://acme/other"));
    let forged = others.make("billing-by-name", spiffe("spiffe://acme/billing"));
    assert_eq!(post(showing(&own, Some(&by_id)), 0).await.unwrap(), 200);
    assert_eq!(post(showing(&own, Some(&by_name)), 1).await.unwrap(), 200);
    assert_eq!(post(showing(&own, Some(&stranger)), 2).await.unwrap(), 401, "valid, and nobody's");
    assert_eq!(post(showing(&own, None), 2).await.unwrap(), 401, "no certificate and no key");
    assert!(post(showing(&own, Some(&forged)), 2).await.is_err(), "of another authority: no handshake");
    assert!(post(showing(&others, None), 2).await.is_err(), "and who does not trust ours talks to nobody");
    // Unbound, it is nobody's at once. Twice bound is refused.
    let bind = |what: &str, principal: &str| {
        service
            .try_change(
                &service.key,
                &[json!({"change": format!("identity.{what}"), "principal": principal, "certificate": "spiffe://acme/billing"})],
            )
            .0
    };
    assert_eq!(bind("bind", "administrator"), 409);
    assert_eq!(bind("unbind", "billing-service"), 200);
    assert_eq!(post(showing(&own, Some(&by_id)), 2).await.unwrap(), 401);
    let told = entries(&service.with_key(&service.key), "acme", "access").await;
    let taken = told.iter().find(|entry| entry["action"] == "events.append").unwrap();
    assert_eq!([&taken["actor"]["id"], &taken["credential"]], ["billing-service", "certificate"]);
}

/// An identity provider: its keys, and whether it answers.
struct Provider {
    url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    keys: Vec<(String, KeyPair)>,
    is_up: bool,
    asked: usize,
}

impl Provider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { keys: vec![], is_up: true, asked: 0 }));
        let shared = Arc::clone(&state);
        // Ends with the test's process; it serves nobody else.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let _ = stream.read(&mut [0; 4096]);
                let mut state = shared.lock().unwrap();
                state.asked += 1;
                let jwk = |(id, key): &(String, KeyPair)| {
                    let point = key.public_key_raw();
                    let (x, y) = point[1..].split_at(32);
                    json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id,
                        "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
                };
                let body = json!({"keys": state.keys.iter().map(jwk).collect::<Vec<_>>()}).to_string();
                let status = if state.is_up { "200 OK" } else { "503 Down" };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all([head, body].concat().as_bytes());
            }
        });
        let provider = Self { url, state };
        provider.rotate("first");
        provider
    }

    fn rotate(&self, id: &str) {
        self.state.lock().unwrap().keys = vec![(id.into(), KeyPair::generate().unwrap())];
    }

    fn sign(&self, claims: &Value) -> String {
        let state = self.state.lock().unwrap();
        let (id, key) = state.keys.last().unwrap();
        let header = Header { kid: Some(id.clone()), ..Header::new(Algorithm::ES256) };
        encode(&header, claims, &EncodingKey::from_ec_der(&key.serialize_der())).unwrap()
    }
}

fn seconds() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

#[tokio::test]
async fn people_sign_in_with_tokens_of_an_issuer_that_rotates_its_keys_and_goes_down() {
    let provider = Provider::start();
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[[oidc]]\nissuer = \"https://login.example\"\naudience = \"piperoll\"\njwks = {:?}\n\
         [[oidc.grants]]\nclaim = \"groups\"\nvalue = \"watchers\"\nrole = \"sre\"\ntenants = [\"acme\"]\n",
        provider.url
    );
    let config = settings(folder.path(), &text);
    let data = folder.path().join("data");
    let service = Service::start(&data, &["--config", &config]);
    service.post("/v1/events", events("acme", 0, 3)).await;
    principal(&service, "ada", None, "tenant-auditor", &["globex"]);
    service.change(&[
        json!({"change": "identity.bind", "principal": "ada", "issuer": "https://login.example", "subject": "u-1"}),
    ]);
    let claims = |more: Value| {
        let mut claims = json!({"iss": "https://login.example", "aud": ["piperoll", "mail"], "sub": "u-1",
            "exp": seconds() + 300, "iat": seconds(), "groups": ["staff", "watchers"]});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    let ask = |token: String, tenant: &'static str| {
        let visitor = service.with_key(&token);
        async move { visitor.query(&[tenant], "SELECT count(*) FROM audit").await }
    };
    let good = provider.sign(&claims(json!({})));
    let (status, answer) = ask(good.clone(), "acme").await;
    assert_eq!((status, &answer["rows"]), (200, &json!([[3]])), "what the claim is worth: {answer}");
    assert_eq!(service.with_key(&good).get("/v1/registry/grants").await.0, 200, "what was granted");
    assert_eq!(ask(provider.sign(&claims(json!({"groups": "staff"}))), "acme").await.0, 403, "without the claim");
    let other_key = KeyPair::generate().unwrap();
    let signed = |header: Header, key: &EncodingKey| encode(&header, &claims(json!({})), key).unwrap();
    let named = |alg: Algorithm, kid: &str| Header { kid: Some(kid.into()), ..Header::new(alg) };
    let public = provider.state.lock().unwrap().keys[0].1.public_key_pem();
    let parts: Vec<&str> = good.split('.').collect();
    let altered = URL_SAFE_NO_PAD.encode(claims(json!({"sub": "u-2"})).to_string());
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"first"}"#);
    let mut ended = claims(json!({}));
    ended.as_object_mut().unwrap().remove("exp");
    for (what, token) in [
        ("expired", provider.sign(&claims(json!({"exp": seconds() - 120})))),
        ("not valid yet", provider.sign(&claims(json!({"nbf": seconds() + 600})))),
        ("issued in the future", provider.sign(&claims(json!({"iat": seconds() + 600})))),
        ("of another audience", provider.sign(&claims(json!({"aud": "mail"})))),
        ("of another issuer", provider.sign(&claims(json!({"iss": "https://login.example.evil"})))),
        ("without an end", provider.sign(&ended)),
        ("bound to nobody", provider.sign(&claims(json!({"sub": "u-9"})))),
        ("altered", format!("{}.{altered}.{}", parts[0], parts[2])),
        ("without a signature", format!("{none}.{}.", parts[1])),
        ("with the algorithm of another", format!("{none}.{}.{}", parts[1], parts[2])),
        (
            "signed with the public key as a secret",
            signed(named(Algorithm::HS256, "first"), &EncodingKey::from_secret(public.as_bytes())),
        ),
        (
            "signed by somebody else under that name",
            signed(named(Algorithm::ES256, "first"), &EncodingKey::from_ec_der(&other_key.serialize_der())),
        ),
        (
            "of a key that is not there",
            signed(named(Algorithm::ES256, "x"), &EncodingKey::from_ec_der(&other_key.serialize_der())),
        ),
        ("too long", format!("{good}{}", "A".repeat(20_000))),
    ] {
        let (status, answer) = ask(token, "acme").await;
        assert_eq!((status, answer["type"].as_str()), (401, Some("urn:piperoll:problem:unauthenticated")), "{what}");
    }
    // Half a minute of clock skew is nobody's fault.
    assert_eq!(ask(provider.sign(&claims(json!({"exp": seconds() - 30, "iat": seconds() + 30}))), "acme").await.0, 200);
    // Down, what is known goes on; and nobody makes us ask more often than every ten seconds.
    provider.state.lock().unwrap().is_up = false;
    let asked = provider.state.lock().unwrap().asked;
    for _ in 0..20 {
        assert_eq!(ask(good.clone(), "acme").await.0, 200);
        assert_eq!(
            ask(signed(named(Algorithm::ES256, "y"), &EncodingKey::from_ec_der(&other_key.serialize_der())), "acme")
                .await
                .0,
            401
        );
    }
    assert!(provider.state.lock().unwrap().asked <= asked + 1);
    // Up again with another key, which is found once ten seconds have passed.
    provider.state.lock().unwrap().is_up = true;
    provider.rotate("second");
    let fresh = provider.sign(&claims(json!({})));
    let mut status = 0;
    for _ in 0..30 {
        status = ask(fresh.clone(), "acme").await.0;
        if status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    assert_eq!(status, 200);
    assert_eq!(ask(good, "acme").await.0, 401, "the old key is gone");
}
