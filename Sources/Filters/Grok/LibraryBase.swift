//  The named patterns every installation has, part one: words, numbers, networks, times, syslog, web servers.
//
//  How the library files are written. One definition a line, `NAME expression`, for both sets (legacy names and ECS). A
//  line that starts with `<` is of the legacy set alone, one with `>` of the ECS set. In `%{NAME:left|right:int}` the
//  left field is the legacy one, the right the ECS one with its type; an empty side does not capture. `#` is a comment.
//
//  Expressions prefer shapes that a matcher runs once over the text: alternatives that differ in their first character,
//  possessive repetitions where giving back can never help. The boundaries and guards are part of what operators' own
//  expressions rely on, so they stand even where they look odd.

extension GrokLibrary {
  static let base = #"""
    # Words, numbers, strings
    USERNAME [a-zA-Z0-9._-]+
    USER %{USERNAME}
    < EMAILLOCALPART [a-zA-Z][a-zA-Z0-9_+-=]+
    > EMAILLOCALPART [\w!#$%&'*+/=?^`{|}~-]{1,64}(?:\.[\w!#$%&'*+/=?^`{|}~-]{1,62}){0,63}
    EMAILADDRESS %{EMAILLOCALPART}@%{HOSTNAME}
    INT [+-]?[0-9]+
    BASE10NUM (?<![0-9.+-])(?>[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+))
    NUMBER %{BASE10NUM}
    BASE16NUM (?<![0-9A-Fa-f])[+-]?(?:0x)?[0-9A-Fa-f]+
    BASE16FLOAT \b(?<![0-9A-Fa-f.])[+-]?(?:0x)?(?:[0-9A-Fa-f]+(?:\.[0-9A-Fa-f]*)?|\.[0-9A-Fa-f]+)\b
    POSINT \b[1-9][0-9]*+\b
    NONNEGINT \b[0-9]++\b
    WORD \b\w++\b
    NOTSPACE \S+
    SPACE \s*
    DATA .*?
    GREEDYDATA .*
    QUOTEDSTRING (?<!\\)(?>"(?:[^"\\]++|\\.)*+"|'(?:[^'\\]++|\\.)*+'|`(?:[^`\\]++|\\.)*+`)
    QS %{QUOTEDSTRING}
    UUID [A-Fa-f0-9]{8}-(?:[A-Fa-f0-9]{4}-){3}[A-Fa-f0-9]{12}
    URN urn:[0-9A-Za-z][0-9A-Za-z-]{0,31}:(?:[0-9A-Za-z()+,.:=@;$_!*'/?#-]|%[0-9a-fA-F]{2})+

    # Networks
    CISCOMAC (?:[A-Fa-f0-9]{4}\.){2}[A-Fa-f0-9]{4}
    WINDOWSMAC (?:[A-Fa-f0-9]{2}-){5}[A-Fa-f0-9]{2}
    COMMONMAC (?:[A-Fa-f0-9]{2}:){5}[A-Fa-f0-9]{2}
    MAC (?:%{CISCOMAC}|%{WINDOWSMAC}|%{COMMONMAC})
    # The look-ahead turns host names and dotted addresses away before all alternatives do; the forms with a dotted tail
    # come last and share it, which keeps the compiled pattern small.
    IPV6 (?=(?>\h{0,4}):)(?:(?:\h{1,4}:){7}(?:\h{1,4}|:)|(?:\h{1,4}:){6}(?::\h{1,4}|:)|(?:\h{1,4}:){5}(?:(?::\h{1,4}){1,2}|:)|(?:\h{1,4}:){4}(?:(?::\h{1,4}){1,3}|:)|(?:\h{1,4}:){3}(?:(?::\h{1,4}){1,4}|:)|(?:\h{1,4}:){2}(?:(?::\h{1,4}){1,5}|:)|(?:\h{1,4}:){1}(?:(?::\h{1,4}){1,6}|:)|:(?:(?::\h{1,4}){1,7}|:)|(?:(?:\h{1,4}:){6}|(?:\h{1,4}:){5}:|(?:\h{1,4}:){4}(?::\h{1,4}){0,1}:|(?:\h{1,4}:){3}(?::\h{1,4}){0,2}:|(?:\h{1,4}:){2}(?::\h{1,4}){0,3}:|(?:\h{1,4}:){1}(?::\h{1,4}){0,4}:|:(?::\h{1,4}){0,5}:)%{_V4TAIL})(?:%.+)?
    _V4TAIL (?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}
    # Each first digit allows other second ones, so an octet is read without a second try.
    _OCTET (?:1[0-9]{0,2}|2(?:[0-4][0-9]?|5[0-5]?|[6-9])?|0[0-9]{0,2}|[3-9][0-9]?)
    IPV4 (?<![0-9])%{_OCTET}\.%{_OCTET}\.%{_OCTET}\.%{_OCTET}(?![0-9])
    IP (?:%{IPV6}|%{IPV4})
    HOSTNAME \b[0-9A-Za-z][0-9A-Za-z-]{0,62}(?:\.[0-9A-Za-z][0-9A-Za-z-]{0,62})*\.?
    IPORHOST (?:%{IP}|%{HOSTNAME})
    HOSTPORT %{IPORHOST}:%{POSINT}
    PATH (?:%{UNIXPATH}|%{WINPATH})
    UNIXPATH (?:/[[:alnum:]_%!$@:.,+~-]*)+
    WINPATH (?:[A-Za-z]+:|\\)(?:\\[^\\?*]*)+
    TTY /dev/(?:pts|tty[pq]?)\w*/?[0-9]+
    URIPROTO [A-Za-z][A-Za-z0-9+.-]+
    URIHOST %{IPORHOST}(?::%{POSINT:port|})?
    URIPATH (?:/[A-Za-z0-9$.+!*'(){},~:;=@#%&_-]*)+
    > URIQUERY [A-Za-z0-9$.+!*'(){},~:;=@#%&_/?|\[\]<>-]*
    < URIPARAM \?[A-Za-z0-9$.+!*'(){},~:;=@#%&_/?|\[\]<>-]*
    > URIPARAM \?%{URIQUERY}
    URIPATHPARAM %{URIPATH}(?:%{URIPARAM})?
    URI %{URIPROTO}://(?:%{USER}(?::[^@]*)?@)?(?:%{URIHOST})?(?:%{URIPATHPARAM})?

    # Dates and times
    MONTH \b(?:[Jj](?:an(?:uary?)?|un[ei]?|ul[yi]?)|[Mm](?:[aä]?r(?:ch|z)?|a[yi]?)|[Aa](?:pr(?:il)?|ug(?:ust)?)|[Ss]ep(?:tember)?|[Oo][ck]?t(?:ober)?|[Nn]ov(?:ember)?|[Dd]e[cz](?:ember)?|[Ff]eb(?:ruary?)?)\b
    MONTHNUM (?:0?[1-9]|1[0-2])
    MONTHNUM2 (?:0[1-9]|1[0-2])
    MONTHDAY (?:0[1-9]|[12][0-9]|3[01]|[1-9])
    DAY (?:Mon(?:day)?|T(?:ue(?:sday)?|hu(?:rsday)?)|Wed(?:nesday)?|Fri(?:day)?|S(?:at(?:urday)?|un(?:day)?))
    YEAR (?>[0-9]{2}(?:[0-9]{2})?)
    HOUR (?:2[0-3]|[01]?[0-9])
    MINUTE [0-5][0-9]
    SECOND (?:[0-5]?[0-9]|60)(?:[:.,][0-9]+)?
    TIME %{HOUR}:%{MINUTE}:%{SECOND}(?![0-9])
    DATE_US %{MONTHNUM}[/-]%{MONTHDAY}[/-]%{YEAR}
    DATE_EU %{MONTHDAY}[./-]%{MONTHNUM}[./-]%{YEAR}
    DATE (?:%{DATE_US}|%{DATE_EU})
    DATESTAMP %{DATE}[- ]%{TIME}
    ISO8601_TIMEZONE (?:Z|[+-]%{HOUR}:?%{MINUTE})
    ISO8601_SECOND %{SECOND}
    TIMESTAMP_ISO8601 %{YEAR}-%{MONTHNUM}-%{MONTHDAY}[T ]%{HOUR}:?%{MINUTE}(?::?%{SECOND})?%{ISO8601_TIMEZONE}?
    TZ (?:[APMCE][SD]T|UTC)
    DATESTAMP_RFC822 %{DAY} %{MONTH} %{MONTHDAY} %{YEAR} %{TIME} %{TZ}
    DATESTAMP_RFC2822 %{DAY}, %{MONTHDAY} %{MONTH} %{YEAR} %{TIME} %{ISO8601_TIMEZONE}
    DATESTAMP_OTHER %{DAY} %{MONTH} %{MONTHDAY} %{TIME} %{TZ} %{YEAR}
    DATESTAMP_EVENTLOG %{YEAR}%{MONTHNUM2}%{MONTHDAY}%{HOUR}%{MINUTE}%{SECOND}
    SYSLOGTIMESTAMP %{MONTH} +%{MONTHDAY} %{TIME}
    HTTPDATE %{MONTHDAY}/%{MONTH}/%{YEAR}:%{TIME} %{INT}

    # Syslog
    PROG [!-Z\\^-~]+
    SYSLOGPROG %{PROG:program|[process][name]}(?:\[%{POSINT:pid|[process][pid]:int}\])?
    SYSLOGHOST %{IPORHOST}
    SYSLOGFACILITY <%{NONNEGINT:facility|[log][syslog][facility][code]:int}.%{NONNEGINT:priority|[log][syslog][priority]:int}>
    SYSLOGBASE %{SYSLOGTIMESTAMP:timestamp} (?:%{SYSLOGFACILITY} )?%{SYSLOGHOST:logsource|[host][hostname]} %{SYSLOGPROG}:
    LOGLEVEL (?:[Aa]lert|ALERT|[Tt]race|TRACE|[Dd]ebug|DEBUG|[Nn]otice|NOTICE|[Ii]nfo?(?:rmation)?|INFO?(?:RMATION)?|[Ww]arn?(?:ing)?|WARN?(?:ING)?|[Ee]rr?(?:or)?|ERR?(?:OR)?|[Cc]rit?(?:ical)?|CRIT?(?:ICAL)?|[Ff]atal|FATAL|[Ss]evere|SEVERE|[Ee]merg(?:ency)?|EMERG(?:ENCY)?)

    SYSLOG5424PRINTASCII [!-~]+
    # The host is taken as it stands: splitting it anew at every hyphen would double the work with each.
    < SYSLOGBASE2 (?:%{SYSLOGTIMESTAMP:timestamp}|%{TIMESTAMP_ISO8601:timestamp8601}) (?:%{SYSLOGFACILITY} )?%{SYSLOGHOST:logsource}++(?: %{SYSLOGPROG}:)?
    > SYSLOGBASE2 (?:%{SYSLOGTIMESTAMP:timestamp}|%{TIMESTAMP_ISO8601:timestamp})(?: %{SYSLOGFACILITY})?(?: %{SYSLOGHOST:[host][hostname]})?(?: %{SYSLOGPROG}:)?
    SYSLOGPAMSESSION %{SYSLOGBASE} (?=%{GREEDYDATA:message})%{WORD:pam_module|[system][auth][pam][module]}\(%{DATA:pam_caller|[system][auth][pam][origin]}\): session %{WORD:pam_session_state|[system][auth][pam][session_state]} for user %{USERNAME:username|[user][name]}(?: by %{GREEDYDATA:pam_by|})?
    CRON_ACTION [A-Z ]+
    CRONLOG %{SYSLOGBASE} \(%{USER:user|[user][name]}\) %{CRON_ACTION:action|[system][cron][action]} \(%{DATA:message}\)
    SYSLOGLINE %{SYSLOGBASE2} %{GREEDYDATA:message}
    SYSLOG5424PRI <%{NONNEGINT:syslog5424_pri|[log][syslog][priority]:int}>
    SYSLOG5424SD \[%{DATA}\]+
    < SYSLOG5424BASE %{SYSLOG5424PRI}%{NONNEGINT:syslog5424_ver} +(?:-|%{TIMESTAMP_ISO8601:syslog5424_ts}) +(?:-|%{IPORHOST:syslog5424_host}) +(?:-|%{SYSLOG5424PRINTASCII:syslog5424_app}) +(?:-|%{SYSLOG5424PRINTASCII:syslog5424_proc}) +(?:-|%{SYSLOG5424PRINTASCII:syslog5424_msgid}) +(?:%{SYSLOG5424SD:syslog5424_sd}|-|)
    > SYSLOG5424BASE %{SYSLOG5424PRI}%{NONNEGINT:[system][syslog][version]} +(?:-|%{TIMESTAMP_ISO8601:timestamp}) +(?:-|%{IPORHOST:[host][hostname]}) +(?:-|%{SYSLOG5424PRINTASCII:[process][name]}) +(?:-|%{POSINT:[process][pid]:int}) +(?:-|%{SYSLOG5424PRINTASCII:[event][code]}) +(?:%{SYSLOG5424SD:[system][syslog][structured_data]}|-|)
    SYSLOG5424LINE %{SYSLOG5424BASE} +%{GREEDYDATA:syslog5424_msg|message}

    # Apache
    HTTPDUSER (?:%{EMAILADDRESS}|%{USER})
    HTTPDERROR_DATE %{DAY} %{MONTH} %{MONTHDAY} %{TIME} %{YEAR}
    < HTTPD_COMMONLOG %{IPORHOST:clientip} %{HTTPDUSER:ident} %{HTTPDUSER:auth} \[%{HTTPDATE:timestamp}\] "(?:%{WORD:verb} %{NOTSPACE:request}(?: HTTP/%{NUMBER:httpversion})?|%{DATA:rawrequest})" (?:-|%{NUMBER:response}) (?:-|%{NUMBER:bytes})
    > HTTPD_COMMONLOG %{IPORHOST:[source][address]} (?:-|%{HTTPDUSER:[apache][access][user][identity]}) (?:-|%{HTTPDUSER:[user][name]}) \[%{HTTPDATE:timestamp}\] "(?:%{WORD:[http][request][method]} %{NOTSPACE:[url][original]}(?: HTTP/%{NUMBER:[http][version]})?|%{DATA})" (?:-|%{INT:[http][response][status_code]:int}) (?:-|%{INT:[http][response][body][bytes]:int})
    < HTTPD_COMBINEDLOG %{HTTPD_COMMONLOG} %{QS:referrer} %{QS:agent}
    # Both quoted parts end where the shortest text would, found a quote at a time instead of a character at a time.
    > HTTPD_COMBINEDLOG %{HTTPD_COMMONLOG} "(?:-|(?<[http][request][referrer]>[^"]*+(?:"(?! ")[^"]*+)*+))" "(?:-|(?<[user_agent][original]>[^"]*+(?:"[^"]*+)*?))"
    HTTPD20_ERRORLOG \[%{HTTPDERROR_DATE:timestamp}\] \[%{LOGLEVEL:loglevel|[log][level]}\] (?:\[client %{IPORHOST:clientip|[source][address]}\] )?%{GREEDYDATA:message}
    HTTPD24_ERRORLOG \[%{HTTPDERROR_DATE:timestamp}\] \[(?:%{WORD:module|[apache][error][module]})?:%{LOGLEVEL:loglevel|[log][level]}\] \[pid %{POSINT:pid|[process][pid]:int}(?::tid %{INT:tid|[process][thread][id]:int})?\](?: \(%{POSINT:proxy_errorcode|[apache][error][proxy][error][code]}\)%{DATA:proxy_message|[apache][error][proxy][error][message]}:)?(?: \[client %{IPORHOST:clientip|[source][address]}:%{POSINT:clientport|[source][port]:int}\])?(?: %{DATA:errorcode|[error][code]}:)? %{GREEDYDATA:message}
    HTTPD_ERRORLOG (?:%{HTTPD20_ERRORLOG}|%{HTTPD24_ERRORLOG})
    COMMONAPACHELOG %{HTTPD_COMMONLOG}
    COMBINEDAPACHELOG %{HTTPD_COMBINEDLOG}
    """#
}
