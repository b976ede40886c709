"""Stand-in for the server, so that drive.py can try the page without a model."""
import http.server, json, os, time, sys, base64, threading, io
ROOT=os.path.join(os.path.dirname(os.path.abspath(__file__)),'../../src/server/page')
POLICY="default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
NOTICE="Draft by a demonstration model. A physician must verify it."
S=[("There is a large consolidation in the right upper lung.","findings",.7513,[384,171,427,384]),
("There is a moderate right pleural effusion.","findings",.93,[299,171,427,384]),
("Moderate right pleural effusion.","impression",.911,[43,171,256,512]),
("Right upper lung consolidation.","impression",.52,[85,213,256,427])]
preview="data:image/jpeg;base64,"+base64.b64encode(open(os.path.join(ROOT,'../../../samples/images/radiograph_pa.jpg'),'rb').read()).decode()
log=[]
class H(http.server.BaseHTTPRequestHandler):
    protocol_version='HTTP/1.1'
    def log_message(self,*a): pass
    def send(self,status,body,ct,extra={}):
        self.send_response(status); self.send_header('Content-Type',ct); self.send_header('Content-Length',str(len(body)))
        for k,v in extra.items(): self.send_header(k,v)
        self.end_headers(); self.wfile.write(body)
    def error(self,status,msg,extra={}):
        self.send(status,json.dumps({"error":{"message":msg,"type":"invalid_request_error","param":None,"code":None}}).encode(),'application/json',extra)
    def allowed(self):
        if KEY and self.headers.get('Authorization')!=f'Bearer {KEY}':
            self.error(401,"No valid API key was given. Send it as `Authorization: Bearer KEY`."); return False
        return True
    def do_GET(self):
        p={'/':'index.html'}.get(self.path) or (self.path[6:] if self.path.startswith('/page/') else None)
        if self.path=='/v1/models':
            if self.allowed(): self.send(200,json.dumps({"data":[{"id":"swinseek-default","object":"model"}]}).encode(),'application/json')
            return
        if p and os.path.exists(f'{ROOT}/{p}'):
            ct={'html':'text/html','css':'text/css','js':'text/javascript'}[p.rsplit('.',1)[1]]
            self.send(200,open(f'{ROOT}/{p}','rb').read(),ct+'; charset=utf-8',{'Content-Security-Policy':POLICY})
        else: self.error(404,'no such page')
    def do_POST(self):
        n=int(self.headers.get('Content-Length',0)); body=json.loads(self.rfile.read(n))
        if not self.allowed(): return
        log.append((self.path,self.headers.get('Accept'),{k:(v if k not in('images','messages') else '…') for k,v in body.items()}))
        print(log[-1],flush=True)
        if MODE=='busy': return self.error(503,'The queue is full.',{'Retry-After':'3'})
        if self.path=='/v1/reports':
            if 'stream' not in body:
                a=self.headers['Accept']
                return self.send(200,b'{"resourceType":"DiagnosticReport"}' if 'fhir' in a else b'DICM',a)
            rep={"findings":" ".join(s[0] for s in S if s[1]=='findings'),"impression":" ".join(s[0] for s in S if s[1]=='impression'),
             "sentences":[{"text":t,"section":s,"confidence":c,"region":{"image":0,"bbox":b}} for t,s,c,b in S],
             "model":"fae5364fd82433eaced0f6ce9220e80a559353f0ba8ff5916099466410487e92","images":[{"digest":"04992df5ddb9b6b51629a1e80c8e7f72b03bcdba947a6b1f9a16d8f4e02e40c8","width":512,"height":512}],"seed":0,"created":1,"notice":NOTICE}
            if 'preview' in body.get('include',[]): rep['images'][0]['preview']=preview
            self.stream([('delta',{"section":s[1],"text":(' ' if i else '')+w}) for s in S for i,w in enumerate(s[0].split(' '))]+[('report',rep)])
        else:
            words="There is a moderate right pleural effusion.".split(' ')
            self.stream([(None,{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]})]+[(None,{"choices":[{"index":0,"delta":{"content":(' ' if i else '')+w}}]}) for i,w in enumerate(words)])
    def stream(self,evs):
        self.send_response(200); self.send_header('Content-Type','text/event-stream'); self.send_header('Connection','close'); self.end_headers()
        try:
            for i,(e,d) in enumerate(evs):
                if MODE=='cut' and i==4:
                    self.wfile.write(b'data: {"error":{"message":"The deadline of 60 s has passed."}}\n\n'); return
                self.wfile.write(((f'event: {e}\n' if e else '')+f'data: {json.dumps(d)}\n\n').encode()); self.wfile.flush(); time.sleep(.02 if MODE!='slow' else .3)
                if i==2: self.wfile.write(b': ping\n\n')
            self.wfile.write(b'data: [DONE]\n\n')
        except (BrokenPipeError,ConnectionResetError): print('client gone',flush=True)
        self.close_connection=True
KEY=None; MODE=None
def serve(port=0):
    s=http.server.ThreadingHTTPServer(('127.0.0.1',port),H); threading.Thread(target=s.serve_forever,daemon=True).start(); return s
