use super::{Together, run};

#[test]
fn the_same_number_makes_the_same_damage() {
    for number in [1, 40, 77, 203] {
        let (one, other) = (run(number, Together::Anything, None), run(number, Together::Anything, None));
        assert_eq!(one.reached, other.reached, "damage {number}");
    }
}
