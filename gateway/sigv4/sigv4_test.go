package sigv4_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"vault-plugin-secrets-kms-hmac/gateway/sigv4"
)

const (
	accessKey = "ASIAEXAMPLE"
	secret    = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	token     = "KGS1AQIDBA-_"
	body      = `{"KeyId":"alias/tokens","Message":"cGF5IDEwIEVVUg==","MacAlgorithm":"HMAC_SHA_256"}`
)

var now = time.Date(2026, 11, 25, 17, 50, 0, 0, time.UTC)

// message is a request as it goes over the wire.
type message struct {
	method, uri, host string
	headers           [][2]string
	body              string
}

func (m message) clone() message {
	m.headers = append([][2]string(nil), m.headers...)
	return m
}

// received is the request as net/http hands it to a server.
func (m message) received(t require.TestingT) *http.Request {
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nHost: %s\r\n", m.method, m.uri, m.host)
	for _, h := range m.headers {
		fmt.Fprintf(&text, "%s: %s\r\n", h[0], h[1])
	}
	text.WriteString("\r\n" + m.body)
	r, err := http.ReadRequest(bufio.NewReader(&text))
	require.NoError(t, err)
	return r
}

// check is all that a service does with a request.
func (m message) check(t require.TestingT, secret string, now time.Time) error {
	r := m.received(t)
	s, err := sigv4.Read(r)
	if err != nil {
		return err
	}
	if err := s.CheckTime(now); err != nil {
		return err
	}
	if err := s.CheckScope("kms", "us-east-1"); err != nil {
		return err
	}
	return s.Verify(s.NewKey(secret), r, []byte(m.body))
}

// signed is a request that aws-sdk-go-v2's own signer has signed.
func signed(t require.TestingT, uri, body string, extra ...string) message {
	return signedAt(t, now, uri, body, extra...)
}

func signedAt(t require.TestingT, at time.Time, uri, body string, extra ...string) message {
	r, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:8203"+uri, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService.GenerateMac")
	r.Header.Set("Amz-Sdk-Invocation-Id", "5f9a3b78-e212-4aa5-8e93-b5aa55775cff")
	for i := 0; i < len(extra); i += 2 {
		r.Header.Set(extra[i], extra[i+1])
	}
	sum := sha256.Sum256([]byte(body))
	credentials := aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secret, SessionToken: token}
	err = v4.NewSigner().SignHTTP(context.Background(), credentials, r, hex.EncodeToString(sum[:]), "kms", "us-east-1", at)
	require.NoError(t, err)
	m := message{method: r.Method, uri: uri, host: r.Host, body: body}
	if m.host == "" {
		m.host = r.URL.Host
	}
	for name, values := range r.Header {
		m.headers = append(m.headers, [2]string{name, values[0]})
	}
	m.headers = append(m.headers, [2]string{"Content-Length", fmt.Sprint(len(body))})
	return m
}

func (m message) header(name string) *string {
	for i := range m.headers {
		if strings.EqualFold(m.headers[i][0], name) {
			return &m.headers[i][1]
		}
	}
	panic(name)
}

func (m message) without(name string) message {
	var left [][2]string
	for _, h := range m.headers {
		if !strings.EqualFold(h[0], name) {
			left = append(left, h)
		}
	}
	m.headers = left
	return m
}

func requireReason(t *testing.T, err error, reason sigv4.Reason, words string) {
	t.Helper()
	var e *sigv4.Error
	require.True(t, errors.As(err, &e), "%v", err)
	require.Equal(t, reason, e.Reason, "%v", err)
	require.Contains(t, e.Message, words)
}

func TestGoSignerIsVerified(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{"/", "/payments", "/payments/eu/", "/a.b-c_d~e"} {
		require.NoError(t, signed(t, uri, body).check(t, secret, now), uri)
	}
	require.NoError(t, signed(t, "/", "{}").check(t, secret, now))
	require.NoError(t, signed(t, "/", "").check(t, secret, now))
	m := signed(t, "/", body, "X-Custom", "  a   b  c ", "X-Amz-Meta-Thing", "Grüße")
	require.NoError(t, m.check(t, secret, now), "spaces fold as in the signature")
}

// TestBotocoreIsVerified reads requests recorded from botocore 1.43.11.
func TestBotocoreIsVerified(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/botocore.json")
	require.NoError(t, err)
	var recorded []struct {
		Method, URI, Host, Body string
		Headers                 map[string]string
	}
	require.NoError(t, json.Unmarshal(text, &recorded))
	require.NotEmpty(t, recorded)
	for _, one := range recorded {
		m := message{method: one.Method, uri: one.URI, host: one.Host, body: one.Body}
		for name, value := range one.Headers {
			m.headers = append(m.headers, [2]string{name, value})
		}
		r := m.received(t)
		s, err := sigv4.Read(r)
		require.NoError(t, err)
		require.Equal(t, accessKey, s.AccessKey)
		require.Equal(t, token, s.SecurityToken)
		require.NoError(t, s.Verify(s.NewKey(secret), r, []byte(one.Body)), one.Headers["X-Amz-Target"])
		require.Error(t, s.Verify(s.NewKey(secret+"x"), r, []byte(one.Body)))
	}
}

// TestPublishedVector is "post-vanilla" of the test suite that AWS publishes.
func TestPublishedVector(t *testing.T) {
	t.Parallel()
	m := message{method: "POST", uri: "/", host: "example.amazonaws.com", headers: [][2]string{
		{"X-Amz-Date", "20150830T123600Z"},
		{"Content-Length", "0"},
		{"Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, " +
			"SignedHeaders=host;x-amz-date, Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
	}}
	r := m.received(t)
	s, err := sigv4.Read(r)
	require.NoError(t, err)
	require.NoError(t, s.Verify(s.NewKey("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), r, nil))
}

// TestAnyChangeIsRefused changes one thing at a time of a signed request.
func TestAnyChangeIsRefused(t *testing.T) {
	t.Parallel()
	signedNames := []string{"Content-Type", "X-Amz-Target", "X-Amz-Date", "X-Amz-Security-Token", "Amz-Sdk-Invocation-Id", "X-Custom"}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ -~]{0,200}`).Draw(t, "body")
		m := signed(t, "/payments", text, "X-Custom", "some value")
		require.NoError(t, m.check(t, secret, now))
		changed := m.clone()
		key := secret
		authorization := changed.header("Authorization")
		switch rapid.IntRange(0, 9).Draw(t, "what") {
		case 0:
			changed.uri = rapid.SampledFrom([]string{"/", "/payment", "/payments/", "/Payments", "/payments/x"}).Draw(t, "uri")
		case 1:
			value := changed.header(rapid.SampledFrom(signedNames).Draw(t, "header"))
			at := rapid.IntRange(0, len(*value)-1).Draw(t, "at")
			c := rapid.SampledFrom([]byte("abcXYZ0189")).Draw(t, "character")
			if (*value)[at] == c {
				c = '_'
			}
			*value = (*value)[:at] + string(c) + (*value)[at+1:]
		case 2:
			changed = changed.without(rapid.SampledFrom(signedNames).Draw(t, "header"))
		case 3:
			changed.body = text + "x"
			*changed.header("Content-Length") = fmt.Sprint(len(changed.body))
		case 4:
			if text == "" {
				t.Skip()
			}
			at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
			changed.body = text[:at] + string(text[at]^1) + text[at+1:]
		case 5:
			at := len(*authorization) - 1 - rapid.IntRange(0, 63).Draw(t, "digit")
			c := byte('0')
			if (*authorization)[at] == c {
				c = '1'
			}
			*authorization = (*authorization)[:at] + string(c) + (*authorization)[at+1:]
		case 6:
			name := rapid.SampledFrom([]string{"content-type;", "host;", "x-amz-date;", "x-amz-security-token;", ";x-amz-target", ";x-custom"}).Draw(t, "name")
			if !strings.Contains(*authorization, name) {
				t.Skip()
			}
			*authorization = strings.Replace(*authorization, name, "", 1)
		case 7:
			key = rapid.StringMatching(`[A-Za-z0-9+/]{10,60}`).Draw(t, "secret")
		case 8:
			name := rapid.SampledFrom(append(signedNames, "Authorization")).Draw(t, "header")
			changed.headers = append(changed.headers, [2]string{name, *changed.header(name)})
		case 9:
			changed.host = rapid.SampledFrom([]string{"127.0.0.1", "127.0.0.1:8204", "kms.example:8203"}).Draw(t, "host")
		}
		require.Error(t, changed.check(t, key, now))
	})
}

func TestTime(t *testing.T) {
	t.Parallel()
	m := signed(t, "/", body)
	for _, good := range []time.Duration{0, 5 * time.Minute, -5 * time.Minute} {
		require.NoError(t, m.check(t, secret, now.Add(good)), good)
	}
	requireReason(t, m.check(t, secret, now.Add(6*time.Minute)), sigv4.Invalid,
		"Signature expired: 20261125T175000Z is now earlier than 20261125T175100Z (20261125T175600Z - 5 min.)")
	requireReason(t, m.check(t, secret, now.Add(-6*time.Minute)), sigv4.Invalid,
		"Signature not yet current: 20261125T175000Z is still later than 20261125T174900Z (20261125T174400Z + 5 min.)")
}

// TestMidnight: the day is that of the signature, not that of the service.
func TestMidnight(t *testing.T) {
	t.Parallel()
	midnight := time.Date(2026, 12, 31, 24, 0, 0, 0, time.UTC)
	for _, row := range [][2]time.Duration{{-time.Second, 2 * time.Minute}, {2 * time.Minute, -time.Second}, {-time.Nanosecond, 0}, {0, -time.Nanosecond}} {
		m := signedAt(t, midnight.Add(row[0]), "/", body)
		require.NoError(t, m.check(t, secret, midnight.Add(row[1])), row)
		// The date of another zone is another date.
		require.NoError(t, m.check(t, secret, midnight.Add(row[1]).In(time.FixedZone("", 14*3600))), row)
	}
	m := signedAt(t, midnight.Add(-time.Second), "/", body)
	*m.header("Authorization") = strings.Replace(*m.header("Authorization"), "/20261231/", "/20270101/", 1)
	requireReason(t, m.check(t, secret, midnight), sigv4.Invalid, "does not match YYYYMMDD")
}

func TestRefused(t *testing.T) {
	t.Parallel()
	replace := func(old, new string) func(*message) {
		return func(m *message) {
			a := m.header("Authorization")
			*a = strings.Replace(*a, old, new, 1)
		}
	}
	uri := func(uri string) func(*message) { return func(m *message) { m.uri = uri } }
	add := func(name, value string) func(*message) {
		return func(m *message) { m.headers = append(m.headers, [2]string{name, value}) }
	}
	set := func(name, value string) func(*message) { return func(m *message) { *m.header(name) = value } }
	for name, row := range map[string]struct {
		change func(*message)
		reason sigv4.Reason
		words  string
	}{
		"GET":                    {func(m *message) { m.method = "GET" }, sigv4.Incomplete, "Only POST"},
		"query":                  {uri("/?x=1"), sigv4.Incomplete, "query"},
		"empty query":            {uri("/?"), sigv4.Incomplete, "query"},
		"presigned":              {uri("/?X-Amz-Algorithm=AWS4-HMAC-SHA256"), sigv4.Incomplete, "presigned"},
		"escaped path":           {uri("/%61"), sigv4.Incomplete, "path"},
		"dots":                   {uri("/a/../b"), sigv4.Incomplete, "path"},
		"two slashes":            {uri("//a"), sigv4.Incomplete, "path"},
		"two slashes at the end": {uri("/a//"), sigv4.Incomplete, "path"},
		"absolute URI":           {uri("http://127.0.0.1:8203/"), sigv4.Incomplete, "path"},
		"dot at the end":         {uri("/a/."), sigv4.Incomplete, "path"},
		"escaped slash":          {uri("/a%2fb"), sigv4.Incomplete, "path"},
		"escaped dots":           {uri("/%2e%2e/b"), sigv4.Incomplete, "path"},
		"path parameter":         {uri("/a;b"), sigv4.Incomplete, "path"},
		"backslash":              {uri(`/a\b`), sigv4.Incomplete, "path"},
		"escaped query":          {uri("/%3fx=1"), sigv4.Incomplete, "path"},
		"other algorithm":        {replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), sigv4.Incomplete, "algorithm"},
		"no credential":          {replace("Credential=", "credential="), sigv4.Incomplete, "not known"},
		"empty signature":        {replace("Signature=", "Signature=,X="), sigv4.Incomplete, "'Signature' parameter"},
		"two signatures":         {replace("Signature=", "Signature=00, Signature="), sigv4.Incomplete, "once"},
		"short signature":        {replace("Signature=", "Signature=0"), sigv4.Incomplete, "64 hexadecimal"},
		"two spaces":             {replace(" Credential", "  Credential"), sigv4.Incomplete, "'Authorization'"},
		"scope of four":          {replace("/kms/", "/"), sigv4.Incomplete, "5 slash-delimited"},
		"empty access key":       {replace(accessKey, ""), sigv4.Incomplete, "empty"},
		"other terminator":       {replace("aws4_request", "aws5_request"), sigv4.Invalid, "valid terminator: 'aws4_request'"},
		"other region":           {replace("us-east-1", "eu-west-1"), sigv4.Invalid, "valid region, not 'eu-west-1'"},
		"other service":          {replace("/kms/", "/s3/"), sigv4.Invalid, "correct service: 'kms'"},
		"scope of six":           {replace("/kms/", "/kms/kms/"), sigv4.Incomplete, "5 slash-delimited"},
		"a host twice":           {replace("host;", "host;host;"), sigv4.Incomplete, "sorted, each once"},
		"empty name at the end":  {replace("x-amz-target,", "x-amz-target;,"), sigv4.Incomplete, "names in lower case"},
		"a header that is not":   {replace("x-amz-target,", "x-amz-target;x-none,"), sigv4.Invalid, "does not match"},
		"two lists of headers":   {replace("SignedHeaders=", "SignedHeaders=host, SignedHeaders="), sigv4.Incomplete, "once"},
		"two credentials":        {replace("Credential=", "Credential=a/20261125/us-east-1/kms/aws4_request, Credential="), sigv4.Incomplete, "once"},
		"other day":              {replace("/20261125/", "/20261124/"), sigv4.Invalid, "'20261124' != '20261125', from '20261125T175000Z'"},
		"upper case":             {replace("host", "Host"), sigv4.Incomplete, "lower case"},
		"unsorted":               {replace("content-length;", ""), sigv4.Invalid, "does not match"},
		"host not signed":        {replace("host;", ""), sigv4.Incomplete, "'Host' must be"},
		"target not signed":      {replace(";x-amz-target", ""), sigv4.Incomplete, "'X-Amz-Target' must be"},
		"another amz header":     {add("X-Amz-Other", "1"), sigv4.Incomplete, "'X-Amz-Other' must be"},
		"target in another case": {add("x-amz-target", "TrentService.VerifyMac"), sigv4.Incomplete, "repeated"},
		"folded target":          {set("X-Amz-Target", "TrentService.\r\n GenerateMac"), sigv4.Invalid, "does not match"},
		"length of chunks":       {add("X-Amz-Decoded-Content-Length", "5"), sigv4.Incomplete, "'X-Amz-Decoded-Content-Length' must be"},
		"trailer":                {add("X-Amz-Trailer", "x-amz-checksum-crc32"), sigv4.Incomplete, "'X-Amz-Trailer' must be"},
		"two tokens":             {add("X-Amz-Security-Token", "KGS1AAAA"), sigv4.Incomplete, "repeated"},
		"two dates":              {add("X-Amz-Date", "20261125T175000Z"), sigv4.Incomplete, "repeated"},
		"folded token":           {set("X-Amz-Security-Token", "KGS1\r\n AQIDBA-_"), sigv4.Incomplete, "cannot have"},
		"two authorizations":     {add("Authorization", "Basic x"), sigv4.Incomplete, "repeated"},
		"date of another form":   {set("X-Amz-Date", "2026-11-25T17:50:00Z"), sigv4.Incomplete, "ISO-8601"},
		"fractions of a second":  {set("X-Amz-Date", "20261125T175000.5Z"), sigv4.Incomplete, "ISO-8601"},
		"no date":                {func(m *message) { *m = m.without("X-Amz-Date") }, sigv4.Incomplete, "'X-Amz-Date'"},
		"stripped header":        {func(m *message) { *m = m.without("Content-Type") }, sigv4.Invalid, "does not match"},
		"tab in a signed header": {set("Content-Type", "a\tb"), sigv4.Incomplete, "tabs"},
		"encoded":                {add("Content-Encoding", "gzip"), sigv4.Incomplete, "Encoded"},
		"streaming":              {add("Content-Encoding", "aws-chunked"), sigv4.Incomplete, "Encoded"},
		"chunked": {func(m *message) {
			*m = m.without("Content-Length")
			m.headers = append(m.headers, [2]string{"Transfer-Encoding", "chunked"})
			m.body = "0\r\n\r\n"
		}, sigv4.Incomplete, "chunked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := signed(t, "/", body)
			row.change(&m)
			requireReason(t, m.check(t, secret, now), row.reason, row.words)
		})
	}
}

func TestPayloadHeader(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte(body))
	require.NoError(t, signed(t, "/", body, "X-Amz-Content-Sha256", hex.EncodeToString(sum[:])).check(t, secret, now))
	for _, value := range []string{"UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", strings.Repeat("0", 64)} {
		err := signed(t, "/", body, "X-Amz-Content-Sha256", value).check(t, secret, now)
		requireReason(t, err, sigv4.Invalid, "X-Amz-Content-Sha256")
	}
}

func FuzzRead(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=a/20261125/us-east-1/kms/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0", 64), "/", "20261125T175000Z")
	f.Add("AWS4-HMAC-SHA256 ", "/a//", "2")
	f.Fuzz(func(t *testing.T, authorization, uri, date string) {
		r := &http.Request{Method: http.MethodPost, RequestURI: uri, Header: http.Header{"Authorization": {authorization}, "X-Amz-Date": {date}}}
		s, err := sigv4.Read(r)
		if err == nil && s.Verify(s.NewKey(secret), r, nil) == nil {
			t.Fatal("a signature out of nothing")
		}
	})
}

// BenchmarkVerify is all that a call costs: reading, checking, verifying. The
// signing key is kept by the session.
func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{64, 4096} {
		b.Run(fmt.Sprintf("message of %d bytes", size), func(b *testing.B) {
			m := signed(b, "/", strings.Repeat("m", size*4/3))
			r := m.received(b)
			s, err := sigv4.Read(r)
			require.NoError(b, err)
			key := s.NewKey(secret)
			text := []byte(m.body)
			b.ReportAllocs()
			for b.Loop() {
				s, err := sigv4.Read(r)
				if err != nil || s.CheckTime(now) != nil || s.CheckScope("kms", "us-east-1") != nil || s.Verify(key, r, text) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}

func BenchmarkNewKey(b *testing.B) {
	s := &sigv4.Signature{Date: "20261125", Region: "us-east-1", Service: "kms"}
	for b.Loop() {
		s.NewKey(secret)
	}
}
