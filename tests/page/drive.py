"""Drives the page in headless Chromium against mock.py: pip install playwright; python drive.py (screenshots go to the current folder)."""
import os, sys; sys.path.insert(0,os.path.dirname(os.path.abspath(__file__)))
import mock
from playwright.sync_api import sync_playwright
s=mock.serve(); base=f'http://127.0.0.1:{s.server_port}/'
D=os.path.join(os.path.dirname(os.path.abspath(__file__)),'../../samples/images/')
errors=[]
with sync_playwright() as p:
    b=p.chromium.launch(executable_path='/usr/bin/chromium',args=['--no-sandbox'])
    def page(scheme='light',w=1280,h=860,**k):
        c=b.new_context(color_scheme=scheme,viewport={'width':w,'height':h},**k); pg=c.new_page()
        pg.on('console',lambda m: errors.append(m.text) if m.type=='error' else None); pg.on('pageerror',lambda e: errors.append(str(e)))
        pg.on('request',lambda r: errors.append('external '+r.url) if not r.url.startswith((base,'data:','blob:')) else None)
        pg.goto(base); return pg
    def report(pg,f='radiograph_pa.jpg'):
        pg.set_input_files('#file',D+f); pg.click('#go'); pg.wait_for_selector('#exports:not([hidden])')
    pg=page(); pg.screenshot(path='empty_light.png')
    report(pg,'phantom.dcm'); pg.hover('.sentence >> nth=1'); pg.wait_for_timeout(250); pg.screenshot(path='report_light.png')
    assert pg.locator('.region.shown').count()==1
    img=pg.locator('#image').bounding_box(); box=pg.locator('.region').bounding_box(); k=img['width']/512
    print('box',[round((box[e]-img[o])/k) for e,o in(('x','x'),('y','y'))],round(box['width']/k),round(box['height']/k))
    with pg.expect_download() as d: pg.click('[data-save=fhir]')
    print(d.value.suggested_filename, open(d.value.path()).read())
    with pg.expect_download() as d: pg.click('[data-save=text]')
    print(open(d.value.path()).read())
    with pg.expect_download() as d: pg.click('[data-save=json]')
    print(open(d.value.path()).read()[:80])
    # keyboard
    pg.focus('.sentence >> nth=0'); assert pg.locator('.region.shown').count()==1; pg.keyboard.press('Tab')
    print('focused', pg.evaluate('document.activeElement.textContent'))
    pg=page('dark'); report(pg); pg.focus('.sentence >> nth=3'); pg.wait_for_timeout(250); pg.screenshot(path='report_dark.png')
    pg=page('dark',390,844,device_scale_factor=2,has_touch=True); pg.screenshot(path='phone_dark_empty.png'); report(pg,'phantom.dcm'); pg.tap('.sentence >> nth=3'); pg.wait_for_timeout(250); pg.screenshot(path='phone_dark.png')
    pg=page('light',320,640); report(pg); pg.screenshot(path='narrow.png',full_page=True); print('overflow', pg.evaluate('document.documentElement.scrollWidth'))
    # question
    pg=page(); pg.set_input_files('#file',D+'cat.jpg'); pg.check('input[value=question]',force=True); pg.click('#go'); pg.wait_for_selector('#message:not([hidden])'); print(pg.inner_text('#message'))
    pg.fill('#question','Is there an effusion?'); pg.keyboard.press('Enter'); pg.wait_for_selector('#exports:not([hidden])'); print(repr(pg.inner_text('#text'))); pg.screenshot(path='question.png')
    # errors
    mock.MODE='busy'; pg=page(); pg.set_input_files('#file',D+'cat.jpg'); pg.click('#go'); pg.wait_for_selector('#message:not([hidden])'); print(pg.inner_text('#message')); pg.screenshot(path='busy.png')
    mock.MODE='cut'; pg.click('#go'); pg.wait_for_function("document.querySelector('#message').textContent.includes('deadline')"); print(pg.inner_text('#message'))
    mock.MODE='slow'; pg.click('#go'); pg.wait_for_selector('.cursor'); pg.screenshot(path='writing.png'); pg.click('#stop'); pg.wait_for_selector('#stop',state='hidden'); print('stopped',pg.inner_text('#status'))
    mock.MODE=None; mock.KEY='k1'; pg=page(); pg.set_input_files('#file',D+'cat.jpg'); pg.click('#go'); pg.wait_for_selector('#message:not([hidden])'); print(pg.inner_text('#message'), pg.evaluate('document.activeElement.id')); pg.screenshot(path='key.png')
    pg.fill('#key','k1'); pg.keyboard.press('Enter'); pg.wait_for_selector('#exports:not([hidden])'); print('with key ok')
    mock.KEY=None
    # reduced motion + drop + paste
    pg=page(reduced_motion='reduce')
    pg.evaluate('''()=>{const d=new DataTransfer();d.items.add(new File([new Uint8Array([1,2,3])],'x.png',{type:'image/png'}));document.dispatchEvent(new DragEvent('drop',{dataTransfer:d,bubbles:true}))}''')
    pg.wait_for_selector('#placeholder:not([hidden])'); print(pg.inner_text('#placeholder'))
    print(pg.evaluate('''async()=>{const d=new DataTransfer();d.items.add(new File([],'e.png',{type:'image/png'}));document.dispatchEvent(new ClipboardEvent('paste',{clipboardData:d}));await new Promise(r=>setTimeout(r,200));return document.querySelector('#message').textContent}'''))
    b.close()
print('ERRORS',errors)
