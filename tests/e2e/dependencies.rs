//! Which crate may depend on what: the rules of the house, held by the dependency tree itself.

use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::process::Command;

const FUNCTIONS: [&str; 9] = [
    "countersign-actions",
    "countersign-approvals",
    "countersign-cases",
    "countersign-clock",
    "countersign-delivery",
    "countersign-management",
    "countersign-overrides",
    "countersign-webhooks",
    "countersign-workflow",
];

struct Tree {
    names: HashMap<String, String>,
    /// Normal dependencies only: neither of tests nor of build scripts.
    edges: HashMap<String, Vec<String>>,
    members: BTreeSet<String>,
}

impl Tree {
    fn read() -> Self {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
        let version = Command::new(env!("CARGO")).arg("-vV").output().unwrap();
        let version = String::from_utf8(version.stdout).unwrap();
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        // Only this platform's packages are here for sure.
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host])
            .args(["--manifest-path", manifest])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let names = metadata["packages"].as_array().unwrap().iter();
        let names = names.map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let normal = |dep: &&Value| dep["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null());
        let nodes = metadata["resolve"]["nodes"].as_array().unwrap().iter();
        let edges = nodes.map(|node| {
            let deps = node["deps"].as_array().unwrap().iter().filter(normal);
            (text(&node["id"]), deps.map(|dep| text(&dep["pkg"])).collect())
        });
        let members = metadata["workspace_members"].as_array().unwrap().iter().map(text).collect();
        Self { names, edges: edges.collect(), members }
    }

    fn direct(&self, name: &str) -> BTreeSet<&str> {
        let id = self.members.iter().find(|id| self.names[*id] == name).unwrap();
        self.edges[id].iter().map(|id| self.names[id].as_str()).collect()
    }

    fn all(&self, name: &str) -> HashSet<&str> {
        let mut left: Vec<_> = self.members.iter().filter(|id| self.names[*id] == name).collect();
        let mut seen = HashSet::new();
        while let Some(id) = left.pop() {
            if seen.insert(id) {
                left.extend(&self.edges[id]);
            }
        }
        seen.into_iter().map(|id| self.names[id].as_str()).collect()
    }
}

#[test]
fn only_the_store_the_queue_the_secrets_and_the_event_bus_name_an_aws_sdk_crate() {
    let tree = Tree::read();
    for member in &tree.members {
        let name = &tree.names[member];
        let sdk: Vec<_> =
            tree.direct(name).into_iter().filter(|dep| dep.starts_with("aws-sdk-") || *dep == "aws-config").collect();
        let allowed: &[&str] = match name.as_str() {
            "countersign-store" => &["aws-config", "aws-sdk-dynamodb"],
            "countersign-queue" => &["aws-config", "aws-sdk-sqs"],
            "countersign-api" => &["aws-config", "aws-sdk-secretsmanager"],
            "countersign-delivery" => &["aws-config", "aws-sdk-eventbridge"],
            _ => &[],
        };
        assert_eq!(sdk, allowed, "{name}");
    }
}

#[test]
fn no_function_links_the_embedded_engine() {
    let tree = Tree::read();
    for function in FUNCTIONS {
        let linked = tree.all(function);
        assert!(linked.contains("aws-sdk-dynamodb"), "the walk sees what is linked");
        for unwanted in ["countersign-embedded", "dynoxide-rs", "rusqlite", "clap"] {
            assert!(!linked.contains(unwanted), "{function}: {unwanted}");
        }
    }
    assert!(tree.all("countersign").contains("dynoxide-rs"));
}

#[test]
fn the_rules_depend_on_nothing_that_does_io() {
    let tree = Tree::read();
    let ours: Vec<_> =
        tree.direct("countersign-domain").into_iter().filter(|dep| dep.starts_with("countersign")).collect();
    assert_eq!(ours, Vec::<&str>::new());
    let domain = tree.all("countersign-domain");
    for unwanted in ["tokio", "http", "hyper", "axum", "rand", "tracing"] {
        assert!(!domain.contains(unwanted), "{unwanted}");
    }
}

#[test]
fn doors_do_not_depend_on_each_other() {
    let tree = Tree::read();
    for door in FUNCTIONS {
        let others: Vec<_> =
            FUNCTIONS.into_iter().filter(|other| *other != door && tree.all(door).contains(other)).collect();
        assert_eq!(others, Vec::<&str>::new(), "{door}");
    }
}
