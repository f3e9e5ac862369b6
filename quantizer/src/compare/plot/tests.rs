//! Scales cover their data, ticks are round, text is escaped.

use super::*;

#[test]
fn linear_ticks_are_round_and_cover_the_data() {
    for (values, from_zero) in [
        (vec![0.1, 81.3], true),
        (vec![84.2, 86.9], false),
        (vec![0.0, 0.0], true),
        (vec![97.4], false),
        (vec![-3.2, 12.0], false),
        (vec![0.0012, 0.0049], false),
        (vec![1e6, 3e6], true),
        (vec![f64::NAN, 2.0, 3.0], false),
        (vec![], false),
    ] {
        let axis = Axis::linear("y", values.clone(), from_zero);
        let [low, high] = axis.range;
        assert!(low < high, "{values:?}: {axis:?}");
        assert!((2..=9).contains(&axis.ticks.len()), "{values:?}: {axis:?}");
        for value in values.into_iter().filter(|value| value.is_finite()) {
            assert!((-1e-9..=1.0 + 1e-9).contains(&axis.position(value)), "{value} in {axis:?}");
        }
        for (value, label) in &axis.ticks {
            let read: f64 = label.parse().unwrap();
            assert!((read - value).abs() <= 1e-6 * (high - low), "{label} for {value}");
            assert!((-1e-9..=1.0 + 1e-9).contains(&axis.position(*value)));
        }
        assert!(!from_zero || low <= 0.0);
    }
    let labels = |axis: Axis| axis.ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>();
    assert_eq!(
        labels(Axis::linear("y", [0.3, 0.9], true)),
        ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    );
    assert_eq!(labels(Axis::linear("y", [0.0, 87.0], true)), ["0", "20", "40", "60", "80", "100"]);
}

#[test]
fn logarithmic_ticks_enclose_the_data_and_distances_are_ratios() {
    for values in [vec![2.7, 22.9], vec![0.0031, 0.0032], vec![10.0], vec![1.0, 1e4], vec![]] {
        let axis = Axis::logarithmic("x", values.clone());
        assert!(axis.range[0] > 0.0 && axis.range[0] < axis.range[1], "{values:?}: {axis:?}");
        for value in values {
            assert!((-1e-9..=1.0 + 1e-9).contains(&axis.position(value)), "{value} in {axis:?}");
        }
    }
    let axis = Axis::logarithmic("x", [2.7, 22.9]);
    let labels: Vec<&str> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
    assert_eq!(labels, ["2", "5", "10", "20", "50"]);
    let step = |low: f64, high: f64| axis.position(high) - axis.position(low);
    assert!((step(2.0, 4.0) - step(20.0, 40.0)).abs() < 1e-12);
}

#[test]
fn points_lie_inside_the_picture_and_carry_their_text() {
    let chart = Chart {
        title: "a < b & \"c\"".to_owned(),
        size: [400.0, 300.0],
        x: Axis::at("bits", vec![(1.58, "1.58".to_owned()), (4.0, "4".to_owned())]),
        y: Axis::linear("top-1", [0.0, 100.0], true),
        guides: vec![(2.0, "two".to_owned())],
        levels: vec![(90.0, "float".to_owned())],
        front: vec![[1.58, 0.0], [4.0, 100.0]],
        series: (0..STYLES)
            .map(|style| Series {
                name: format!("series {style}"),
                style,
                joined: true,
                hollow: style % 2 == 1,
                shift: 0.0,
                points: vec![
                    Point {
                        at: [1.58, 0.0],
                        margin: 1.0,
                        label: String::new(),
                        tooltip: "<none>".to_owned(),
                    },
                    Point {
                        at: [4.0, 100.0],
                        margin: 0.0,
                        label: "4 & more".to_owned(),
                        tooltip: "all".to_owned(),
                    },
                ],
            })
            .collect(),
    };
    let svg = chart.svg();
    assert!(svg.contains("aria-label=\"a &lt; b &amp; &quot;c&quot;\""), "{svg}");
    assert_eq!(svg.matches("<title>&lt;none&gt;</title>").count(), STYLES);
    assert_eq!(svg.matches("class=\"whisker\"").count(), STYLES, "only where there is a margin");
    assert_eq!(svg.matches("4 &amp; more</text>").count(), STYLES);
    assert_eq!((svg.matches("class=\"ring\"").count(), svg.matches("<path ").count()), (2, 1));
    for at in [[1.58, 0.0], [4.0, 100.0]] {
        let [x, y] = chart.place(at);
        assert!((0.0..=400.0).contains(&x) && (0.0..=300.0).contains(&y));
    }
    let shapes: std::collections::BTreeSet<String> =
        (0..STYLES).map(|style| marker(style, [0.0, 0.0], 4.0)).collect();
    assert_eq!(shapes.len(), STYLES, "every style has a marker of its own");
    assert!(legend_entry(&chart.series[3]).contains("series 3"));
}

#[test]
fn control_characters_do_not_reach_the_page() {
    assert_eq!(escape("a\u{0}b\u{1b}[m'"), "a\u{fffd}b\u{fffd}[m&#39;");
}
