/// The size of the block, from the environment of the compiler.
const fn const_bytes() -> usize {
    let digits = env!("BYTES").as_bytes();
    let mut value = 0;
    let mut index = 0;
    while index < digits.len() {
        value = value * 10 + (digits[index] - b'0') as usize;
        index += 1;
    }
    value
}
