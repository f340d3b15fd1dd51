use super::super::error::Path;
use super::super::values;
use super::Writer;

/// How headers are called that only Envoy makes, and that no call has.
const OF_ENVOY: &str = "x-envoy-";

/// The format of lines for calls of HTTP, as far as it says something of others: with a dash in place of each operator that
/// stands for nothing here, as Envoy writes what is not there. Those of them that are not headers of requests come beside it.
///
/// Names of headers in capitals are those of attributes in small letters, since only HTTP takes both for the same.
pub fn mend_log_format(text: &str) -> (String, Vec<String>) {
    let (mut mended, mut unknown) = (String::new(), Vec::new());
    let mut rest = text;
    loop {
        match values::next(&Path::Root, rest) {
            Ok(Some((before, operator, after))) => {
                mended.push_str(before);
                rest = after;
                let small = in_small(operator);
                let is_known = |operator: &str| {
                    operator.is_empty() || Writer::default().operator(&Path::Root, operator, false).is_ok()
                };
                match small {
                    None => mended.push('-'),
                    Some(small) if is_known(&small) => mended.extend(["%", &small, "%"]),
                    Some(_) => {
                        mended.push('-');
                        unknown.push(["%", operator, "%"].concat());
                    }
                }
            }
            Ok(None) => {
                mended.push_str(rest);
                return (mended, unknown);
            }
            Err(_) => {
                mended.push_str(&rest.replace('%', "%%"));
                unknown.push("%".to_owned());
                return (mended, unknown);
            }
        }
    }
}

/// An operator with names of attributes in place of those of headers; `None` if no call has any of them.
fn in_small(operator: &str) -> Option<String> {
    let Some((names, rest)) = operator.strip_prefix("REQ(").and_then(|names| names.split_once(')')) else {
        return Some(operator.to_owned());
    };
    let small = |name: &str| match name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        true => name.to_owned(),
        false => name.to_ascii_lowercase(),
    };
    let names: Vec<_> = names.split('?').map(small).filter(|name| !name.starts_with(OF_ENVOY)).collect();
    (!names.is_empty()).then(|| format!("REQ({}){rest}", names.join("?")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Istio's own, written out.
    const OF_ISTIO: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
        %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
        %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
        \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
        %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

    #[test]
    fn the_format_of_istio_keeps_its_columns() {
        let (mended, unknown) = mend_log_format(OF_ISTIO);
        let wanted = "[%START_TIME%] \"%REQ(:method)% %REQ(:path)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
            %RESPONSE_CODE_DETAILS% - \"-\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
            %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(x-forwarded-for)%\" \
            \"%REQ(user-agent)%\" \"%REQ(x-request-id)%\" \"%REQ(:authority)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% - - \
            %DOWNSTREAM_REMOTE_ADDRESS% - %ROUTE_NAME%\n";
        assert_eq!(mended, wanted);
        assert_eq!(
            unknown,
            [
                "%CONNECTION_TERMINATION_DETAILS%",
                "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
                "%UPSTREAM_LOCAL_ADDRESS%",
                "%DOWNSTREAM_LOCAL_ADDRESS%",
                "%REQUESTED_SERVER_NAME%",
            ]
        );
    }

    #[test]
    fn names_that_are_not_all_in_capitals_stay() {
        for (format, wanted) in [
            ("%REQ(parameterTypes?X-A):8%", "%REQ(parameterTypes?x-a):8%"),
            ("%REQ(X-ENVOY-ATTEMPT-COUNT)%", "-"),
            ("%REQ(X-ENVOY-A?x-envoy-b):9%%%", "-%%"),
            ("%START_TIME(%s.%3f)%", "%START_TIME(%s.%3f)%"),
        ] {
            assert_eq!(mend_log_format(format), (wanted.to_owned(), Vec::new()), "{format}");
        }
    }

    #[test]
    fn what_is_made_of_any_text_is_a_format() {
        for (format, wanted) in [
            ("100% %DURATION", "100-DURATION"),
            ("a %", "a %%"),
            ("%START_TIME(%", "-"),
            ("%REQ(a%", "-"),
            ("%REQ(a?b?c)%", "%REQ(a?b?c)%"),
            ("%REQ()%", "-"),
            ("%REQ(:SCHEME)%", "-"),
            ("%REQ(%REQ(a)%)%", "%REQ(%REQ(a)%)%%"),
            ("%é%", "-"),
        ] {
            let (mended, unknown) = mend_log_format(format);
            assert!(mended.starts_with(wanted), "{format}: {mended}");
            let raw = crate::raw::AccessLog { text_format: Some(mended.clone()), ..Default::default() };
            assert_eq!(crate::check_log_format(&raw), Ok(()), "{format}: {mended} {unknown:?}");
        }
    }
}
