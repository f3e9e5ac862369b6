//! The blocks of the embedding guide that rustdoc does not run are what the examples in C and Python hold, and those are run by
//! `.ci/embedding`, like the guide's own commands.

use std::fs;
use std::path::Path;

/// The guide's blocks in `language`.
fn blocks(language: &str) -> Vec<String> {
    let guide = include_str!("../EMBEDDING.md");
    let fence = format!("\n```{language}\n");
    let begin = |rest: &str| rest.split("\n```").next().unwrap_or_default().to_owned();
    guide.split(fence.as_str()).skip(1).map(begin).collect()
}

#[test]
fn blocks_are_excerpts_of_the_examples() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for (language, file, count) in [("c", "c/classify.c", 2), ("python", "python/classify.py", 1)] {
        let source = fs::read_to_string(examples.join(file)).unwrap();
        let blocks = blocks(language);
        assert_eq!(blocks.len(), count, "{language}");
        for block in blocks {
            assert!(source.contains(&block), "not in examples/{file}:\n{block}");
        }
    }
}

#[test]
fn the_features_of_the_guide_are_those_of_the_package() {
    let manifest = include_str!("../Cargo.toml");
    let features = manifest.split("[features]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let named = features.lines().filter(|line| !line.starts_with('#') && line.contains('='));
    for name in named.filter_map(|line| line.split(' ').next()).filter(|name| *name != "default") {
        let row = format!("\n| `{name}` |");
        assert!(include_str!("../EMBEDDING.md").contains(&row), "feature {name}");
    }
}
