//! The documents refer to what is there.

use std::fs;
use std::process::Command;

use meltemi_tests::files;

#[test]
fn links_between_files_lead_somewhere() {
    let listed = Command::new("git").args(["ls-files", "*.md"]).current_dir(files::root()).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let documents = String::from_utf8(listed.stdout).unwrap();
    let mut broken = Vec::new();
    for document in documents.lines() {
        let path = files::root().join(document);
        let text = fs::read_to_string(&path).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for link in links.filter(|link| !link.is_empty() && !link.contains("://")) {
            if !path.with_file_name(link).exists() {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(!documents.is_empty() && broken.is_empty(), "{broken:#?}");
}
