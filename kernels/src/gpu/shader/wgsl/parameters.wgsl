// What differs between the dispatches of a product. Rows of activations, residuals and outputs are padded with zeros to a multiple
// of eight numbers, rows of weights to a multiple of 64.
struct Parameters {
    // Rows: first of this dispatch and last of the product.
    first_row: u32,
    last_row: u32,
    // Output features, and quads (four numbers each) of a row of the output.
    columns: u32,
    out_stride: u32,
    // Input features, and the elements of `activations` and `weights` that a row has.
    in_features: u32,
    activation_stride: u32,
    weight_stride: u32,
    // Row r of the product goes to row (r / group) * step + first + r % group of the output.
    out_group: u32,
    out_step: u32,
    out_first: u32,
    // Row r takes row r % residual_rows of the residual.
    residual_rows: u32,
}
$PARAMETERS
