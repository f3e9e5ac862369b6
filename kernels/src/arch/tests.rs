use std::io::Write;

use super::Isa;
use crate::IsaError;

/// Reports which instruction sets the tests of this binary ran over (all that are available), and fails where
/// `FRESNEL_EXPECT_ISAS`, a comma-separated list, names one that was skipped.
#[test]
fn expected_instruction_sets_are_not_skipped() {
    let names = |isas: &[Isa]| isas.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ");
    let (run, skipped): (Vec<Isa>, Vec<Isa>) =
        Isa::ALL.into_iter().partition(|isa| isa.is_available());
    let mut line = format!("isas run: {}", names(&run));
    if !skipped.is_empty() {
        line += &format!(" / skipped: {} (not on this host)", names(&skipped));
    }
    // Past the capture of the test harness: a skip must be visible.
    writeln!(std::io::stdout(), "\n{line}").unwrap();
    if let Ok(expected) = std::env::var("FRESNEL_EXPECT_ISAS") {
        for name in expected.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let isa: Isa = name.parse().unwrap();
            assert!(run.contains(&isa), "{isa} was to be tested: {line}");
        }
    }
}

#[test]
fn names_are_read_back_and_others_refused() {
    for isa in Isa::ALL {
        assert_eq!(isa.name().parse(), Ok(isa));
        assert_eq!(isa.to_string(), isa.name());
    }
    let unknown = "sse9".parse::<Isa>().unwrap_err();
    assert!(matches!(unknown, IsaError::Unknown { .. }));
    assert_eq!(
        unknown.to_string(),
        "unknown instruction set \"sse9\": expected one of scalar, avx2, avxvnni, avx512vnni, amx, neon, dotprod, i8mm"
    );
}

#[test]
fn tokens_belong_to_their_instruction_set() {
    for isa in Isa::available() {
        assert_eq!(isa.require().unwrap().isa(), isa);
    }
    assert!(Isa::available().contains(&Isa::best()));
    assert_eq!(Isa::available()[0], Isa::Scalar);
}

#[test]
fn the_environment_forces_an_instruction_set() {
    let set = |name: &str| Isa::from_setting(Some(name.as_ref()));
    assert_eq!(Isa::from_setting(None), Ok(Isa::best()));
    assert_eq!(set(""), Ok(Isa::best()));
    assert!(matches!(set("AVX2"), Err(IsaError::Unknown { .. })));
    for isa in Isa::ALL {
        if isa.is_available() {
            assert_eq!(set(isa.name()), Ok(isa));
        } else {
            let error = set(isa.name()).unwrap_err();
            assert!(error.to_string().contains("choose one of scalar"), "{error}");
        }
    }
}
