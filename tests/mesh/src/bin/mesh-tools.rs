//! Builds or finds every program that the mesh's tests need, and says where it is.

fn main() {
    println!("{:#?}", meltemi_mesh_tests::Tools::find());
}
