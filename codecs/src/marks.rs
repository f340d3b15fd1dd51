/// A bit for each of some names, shared by names that look alike: most others have none of these.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Marks(u64);

impl Marks {
    /// That of a name, by its length and its last byte.
    #[inline]
    pub(crate) fn of(name: &[u8]) -> Self {
        let last = name.last().copied().unwrap_or_default();
        Self(1_u64.wrapping_shl(u32::from(last).wrapping_mul(5).wrapping_add(name.len() as u32)))
    }

    /// Whether any name of those may be one of these.
    #[inline]
    pub(crate) fn have(self, those: Self) -> bool {
        self.0 & those.0 != 0
    }

    /// The same of more than one.
    #[inline]
    pub(crate) fn have_several(self, those: Self) -> bool {
        (self.0 & those.0).count_ones() > 1
    }

    /// These and those.
    #[inline]
    pub(crate) fn and(self, those: Self) -> Self {
        Self(self.0 | those.0)
    }
}
