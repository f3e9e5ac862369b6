//! The page is well-formed, self-contained and escapes what comes from outside.

use super::super::tests::sample;
use super::*;

/// Checks that every element is closed and every attribute quoted; returns the elements' names.
pub(crate) fn elements(page: &str) -> Vec<String> {
    let body = page.strip_prefix("<!DOCTYPE html>").expect("a document type");
    let (mut open, mut names) = (Vec::new(), Vec::new());
    let mut pieces = body.split('<');
    assert!(pieces.next().unwrap().trim().is_empty(), "text before the first element");
    for piece in pieces {
        let (tag, text) = piece.split_once('>').unwrap_or_else(|| panic!("no end: <{piece}"));
        for entity in text.split('&').skip(1) {
            let name = entity.split(';').next().unwrap();
            assert!(["amp", "lt", "gt", "quot", "#39"].contains(&name), "&{name}");
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closed in another order");
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric()), "<{tag}");
        while let Some((attribute, rest)) = attributes.trim_start().split_once("=\"") {
            assert!(attribute.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{tag}");
            attributes = rest.split_once('"').unwrap_or_else(|| panic!("no quote: <{tag}")).1;
        }
        assert!(attributes.trim().is_empty(), "not an attribute: <{tag}");
        names.push(name.to_owned());
        if !empty {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    names
}

#[test]
fn the_page_is_well_formed_and_has_its_figures() {
    for metric in [Metric::Accuracy, Metric::Agreement] {
        let page = page(&sample(metric));
        let names = elements(&page);
        let count = |wanted: &str| names.iter().filter(|name| *name == wanted).count();
        assert_eq!(
            page.matches("class=\"chart\"").count(),
            2 + 2 * 4 + 1,
            "beacon at 3 bit failed"
        );
        assert_eq!(count("title"), 1 + page.matches("<g><title>").count());
        assert_eq!(count("input"), 2, "a tab per width");
        assert_eq!(count("h1"), 1);
        assert!(page.contains("Not finished: 5 of 6 rows"));
    }
}

#[test]
fn the_page_needs_nothing_but_itself() {
    assert_self_contained(&page(&sample(Metric::Accuracy)));
}

/// Checks that a page refers to nothing else and runs nothing.
pub(crate) fn assert_self_contained(page: &str) {
    let own = page.replace("http://www.w3.org/1999/xhtml", "");
    for foreign in ["http:", "https:", "//", "src=", "href=", "url(", "@import", "<script", "<link"]
    {
        assert!(!own.contains(foreign), "{foreign}");
    }
}

#[test]
fn names_and_reasons_are_escaped() {
    let page = page(&sample(Metric::Accuracy));
    assert!(page.contains("<h1>vit_&lt;b&gt;&amp;&quot;x&quot;, y</h1>"));
    assert!(page.contains("failed: no &quot;good&quot;, &lt;bad&gt; &amp; gone"));
    assert!(!page.contains("<b>&"), "the name as markup");
}

#[test]
fn the_best_of_each_width_is_marked() {
    let page = page(&sample(Metric::Accuracy));
    assert!(page.contains("<td class=\"best\">32.0 <small>\u{b1}3.2</small></td>"));
    assert!(page.contains("<td>1.0 <small>\u{b1}0.7</small></td>"));
}

#[test]
fn a_comparison_without_rows_is_a_page_too() {
    let mut comparison = sample(Metric::Accuracy);
    comparison.calibration = None;
    comparison.rows.truncate(1);
    elements(&page(&comparison));
    comparison.rows.clear();
    elements(&page(&comparison));
}
