#![no_main]
#![expect(missing_docs, reason = "the macro's functions are not documented")]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fresnel_fuzz::matmul(bytes));
