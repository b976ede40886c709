//! Seconds since 1970 as the dates and times of FHIR and DICOM.

/// A moment in UTC, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    year: u64,
    month: u64,
    day: u64,
    second: u64,
}

impl Moment {
    pub(super) fn from_unix(seconds: u64) -> Self {
        // The last second of the year 9999: later ones have no four-digit year.
        let seconds = seconds.min(253_402_300_799);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        // Years begin in March here, so that the leap day is the last one (Hinnant, "chrono-compatible date algorithms").
        let days = days + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Self { year: era * 400 + year_of_era + u64::from(month <= 2), month, day, second }
    }

    fn clock(self) -> (u64, u64, u64) {
        (self.second / 3600, self.second / 60 % 60, self.second % 60)
    }

    /// `2026-11-22T01:02:03Z`.
    pub(super) fn rfc3339(self) -> String {
        let (hour, minute, second) = self.clock();
        let Self { year, month, day, .. } = self;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// `20261122`, VR DA.
    pub(super) fn dicom_date(self) -> String {
        format!("{:04}{:02}{:02}", self.year, self.month, self.day)
    }

    /// `010203`, VR TM.
    pub(super) fn dicom_time(self) -> String {
        let (hour, minute, second) = self.clock();
        format!("{hour:02}{minute:02}{second:02}")
    }
}

/// A date of a DICOM file, `20261122`, as FHIR writes it; nothing when it is none.
pub(super) fn fhir_date(dicom: &str) -> Option<String> {
    if dicom.len() != 8 || !dicom.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, month, day) = (&dicom[..4], &dicom[4..6], &dicom[6..]);
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    let leap = number(year).is_multiple_of(4)
        && (!number(year).is_multiple_of(100) || number(year).is_multiple_of(400));
    let days = match number(month) {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => 0,
    };
    let exists = (1..=days).contains(&number(day)) && number(year) > 0;
    exists.then(|| format!("{year}-{month}-{day}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        // From `date -u -d @N`.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (1_795_309_323, "2026-11-22T01:02:03Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Moment::from_unix(seconds).rfc3339(), expected);
        }
        let moment = Moment::from_unix(1_795_309_323);
        assert_eq!((moment.dicom_date().as_str(), moment.dicom_time().as_str()), ("20261122", "010203"));
    }

    #[test]
    fn dates_that_do_not_exist_are_left_out() {
        assert_eq!(fhir_date("20240229").as_deref(), Some("2024-02-29"));
        for bad in
            ["20230229", "19000229", "20241301", "20240100", "2024-1-1", "", "00000101", "２０２４０１"]
        {
            assert_eq!(fhir_date(bad), None, "{bad}");
        }
    }
}
