//! Every shader of the kernels is parsed, validated and lowered to the languages of the drivers: SPIR-V (Vulkan), the Metal
//! Shading Language and HLSL (DX12). Shaders with cooperative matrices run on few machines, and in no test elsewhere.

use fresnel_kernels::gpu::shader::{Shader, all};
use naga::back::{hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

fn parsed(shader: &Shader) -> (naga::Module, ModuleInfo) {
    let Shader { name, text, .. } = shader;
    let module = naga::front::wgsl::parse_str(text)
        .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(text)));
    let info = Validator::new(ValidationFlags::all(), Capabilities::all())
        .validate(&module)
        .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(text)));
    (module, info)
}

#[test]
fn every_shader_is_lowered_to_every_language_that_knows_it() {
    let shaders = all();
    assert!(shaders.iter().any(|shader| shader.cooperative));
    let unchecked = BoundsCheckPolicies {
        index: BoundsCheckPolicy::Unchecked,
        buffer: BoundsCheckPolicy::Unchecked,
        image_load: BoundsCheckPolicy::Unchecked,
        binding_array: BoundsCheckPolicy::Unchecked,
    };
    for shader in &shaders {
        let name = &shader.name;
        let (module, info) = parsed(shader);

        let options = spv::Options {
            lang_version: (1, 4),
            bounds_check_policies: unchecked,
            ..Default::default()
        };
        let words = spv::write_vec(&module, &info, &options, None);
        assert!(words.is_ok_and(|words| words.len() > 100), "{name}: SPIR-V");

        let options = msl::Options {
            lang_version: (2, 4),
            bounds_check_policies: unchecked,
            ..Default::default()
        };
        let text = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default());
        let (text, _) = text.unwrap_or_else(|error| panic!("{name}: Metal: {error}"));
        assert_eq!(text.contains("simdgroup_multiply_accumulate"), shader.cooperative, "{name}");

        // HLSL knows no cooperative matrices.
        if shader.cooperative {
            continue;
        }
        let options = hlsl::Options {
            shader_model: hlsl::ShaderModel::V6_4,
            immediates_target: Some(hlsl::BindTarget { space: 2, ..Default::default() }),
            ..Default::default()
        };
        let mut text = String::new();
        let entry_points = hlsl::PipelineOptions::default();
        let written = hlsl::Writer::new(&mut text, &options, &entry_points)
            .write(&module, &info, None);
        assert!(written.is_ok(), "{name}: HLSL: {written:?}");
    }
    println!("{} shaders", shaders.len());
}
