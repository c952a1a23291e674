//! Compiles the kubelet's .proto files, where the feature asks for them.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    #[cfg(feature = "kubelet")]
    {
        let files = protox::compile(
            ["deviceplugin.proto", "pluginregistration.proto", "podresources.proto"],
            ["proto"],
        )?;
        tonic_prost_build::configure().compile_fds(files)?;
    }
    Ok(())
}
