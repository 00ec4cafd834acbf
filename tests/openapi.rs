//! The API as its document describes it: every route is guarded or says why not, and a stranger's tool finds no answer
//! that is not described.
//!
//! Not here: what routes answer to whom (`access`).

use crate::program::{Service, events};
use crate::python::python;
use serde_json::Value;
use std::process::Command;

async fn document(service: &Service) -> Value {
    let (status, text) = service.with_key("nobody").get("/v1/openapi.json").await;
    assert_eq!(status, 200);
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn every_route_that_is_served_is_described_and_guarded_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let document = document(&service).await;
    let nobody = reqwest::Client::new();
    let (mut guarded, mut open) = (0, Vec::new());
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let url = format!("{}{}", service.url, path.replace("{store}", "main").replace(['{', '}'], "x"));
            let request = nobody.request(method.to_ascii_uppercase().parse().unwrap(), url).send();
            let status = request.await.unwrap().status().as_u16();
            if operation["security"].as_array().unwrap().is_empty() {
                assert!(operation["description"].as_str().is_some_and(|why| why.starts_with("Open to everybody: ")));
                assert_eq!(status, 200, "{method} {path}");
                open.push(path.as_str());
            } else {
                assert_eq!(status, 401, "{method} {path}");
                guarded += 1;
            }
        }
    }
    assert_eq!(open, ["/healthz", "/readyz", "/v1/keys", "/v1/stores/{store}/checkpoint", "/v1/openapi.json"]);
    assert!(guarded >= 12, "{guarded}");
    // A page to read it with, which asks nobody else for anything.
    let page = nobody.get(format!("{}/docs/", service.url)).send().await.unwrap();
    assert_eq!(page.status().as_u16(), 200);
    let page = page.text().await.unwrap();
    assert!(page.contains("swagger-ui") && !page.contains("https://") && !page.contains("//cdn"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_tool_finds_no_fault_and_no_answer_that_is_not_described() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    service.post("/v1/events", events("acme", 0, 300)).await;
    let run = Command::new(python)
        .current_dir(folder.path())
        .args(["-m", "schemathesis.cli", "run", "--no-color", "--seed", "7", "--max-examples", "25", "--workers", "1"])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        // Answers that are late, since other tests have the processor, are no faults.
        .args(["--request-timeout", "120"])
        .args(["--header", &format!("Authorization: Bearer {}", service.key)])
        .arg(format!("{}/v1/openapi.json", service.url))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout).replace(&service.key, "…");
    assert!(run.status.success(), "{told}\n{}", String::from_utf8_lossy(&run.stderr));
    eprintln!("{}", told.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"));
}
