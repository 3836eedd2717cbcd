package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// client is one HTTP/1.1 connection of a closed loop: it sends requests that
// are built beforehand, bytes and all, and reads what is answered without
// keeping it. The client shares the machine with what it measures, so what it
// costs is added to every target and pulls all ratios towards one; net/http's
// client costs about as much as the server side of a request.
type client struct {
	conn   net.Conn
	reader *bufio.Reader
	body   bytes.Buffer // of the last answer
	keep   bool         // keep bodies, for the first look and for errors
}

func dial(address string) (*client, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, reader: bufio.NewReaderSize(conn, 16<<10)}, nil
}

func (c *client) close() { c.conn.Close() }

// do sends a request and reads the answer, which must have status 200.
func (c *client) do(request []byte) error {
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	h, err := c.head()
	if err != nil {
		return err
	}
	c.body.Reset()
	failed := h.status != 200
	if err := c.readBody(h, c.keep || failed); err != nil {
		return err
	}
	if failed {
		return fmt.Errorf("status %d: %s", h.status, c.body.Bytes())
	}
	return nil
}

// head is what the client needs of an answer's head.
type head struct {
	status  int
	length  int
	chunked bool
}

func (c *client) head() (head, error) {
	line, err := c.line()
	if err != nil {
		return head{}, err
	}
	var h head
	if len(line) < len("HTTP/1.1 200") {
		return head{}, errors.New("no HTTP answer")
	}
	if h.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return head{}, err
	}
	for {
		line, err := c.line()
		if err != nil || len(line) == 0 {
			return h, err
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch string(name) {
		case "Content-Length":
			if h.length, err = strconv.Atoi(string(value)); err != nil {
				return head{}, err
			}
		case "Transfer-Encoding":
			h.chunked = true
		}
	}
}

// line reads a line, without its end, which is good until the next read.
func (c *client) line() ([]byte, error) {
	line, err := c.reader.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}

func (c *client) readBody(h head, keep bool) error {
	if !h.chunked {
		return c.take(h.length, keep)
	}
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(string(line), 16, 32)
		if err != nil {
			return err
		}
		if err := c.take(int(size), keep); err != nil {
			return err
		}
		if _, err := c.line(); err != nil || size == 0 {
			return err
		}
	}
}

func (c *client) take(n int, keep bool) error {
	if keep {
		_, err := io.CopyN(&c.body, c.reader, int64(n))
		return err
	}
	_, err := c.reader.Discard(n)
	return err
}
