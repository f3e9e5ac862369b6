#![doc = include_str!("../EMBEDDING.md")]
